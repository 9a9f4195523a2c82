"""`zizq work` traces where it is told to."""

import subprocess

import pytest

from acceptance.processes import ZIZQ
from docs.living import LivingServer
from zizq.client.sync import SyncClient

pytestmark = pytest.mark.acceptance

APP = """
import os, signal
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: f"{span.name}\\n")))
trace.set_tracer_provider(provider)


async def stop(job):
    os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize(("options", "spans"), [([], []), (["--tracing"], ["process default", "succeed default"])])
def test_the_module_of_the_handlers_provides_the_spans(tmp_path, options, spans):
    (tmp_path / "app.py").write_text(APP)
    with LivingServer() as server, SyncClient(server.url) as client:
        client.enqueue_raw("t", None)
        command = [*ZIZQ, "work", "app:stop", "--url", server.url, *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.splitlines()) == (0, spans), done.stderr
