"""`python -m tfx_transformer.cli` is the command `tfx-transformer`."""

from tfx_transformer.cli import main

main()
