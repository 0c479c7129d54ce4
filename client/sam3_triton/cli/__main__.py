import sys

from sam3_triton.cli import main

sys.exit(main())
