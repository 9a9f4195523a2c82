"""`python -m zizq` is the command `zizq`."""

from zizq.cli.main import main

main()
