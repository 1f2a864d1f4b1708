"""`python -m keras_scgm`."""

from keras_scgm_cli.main import main

main()
