"""``python -m lqrlib.studies FOLDER [NAME …]``: run studies, store what they found."""

import sys

from lqrlib.studies.record import STUDIES, store

if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    for name in names or STUDIES:
        store(name, folder)
