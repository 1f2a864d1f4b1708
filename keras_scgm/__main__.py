"""`python -m keras_scgm`."""

from keras_scgm_cli.entry import main

main()
