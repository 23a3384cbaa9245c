"""The pictures in README.md and NOTES.md, each drawn by a module here from what the code really does.

`make pictures` draws them all into tests/pictures/, and tests/test_pictures.py says which of them are out of date.
Times, ports and addresses would change from run to run, so no picture shows any.
"""
