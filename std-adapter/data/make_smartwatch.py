"""Makes smartwatch.csv.gz from the Python package seglearn (1.2.5) and numpy, the same on every run:

    pip install numpy && pip install --no-deps seglearn==1.2.5 && python make_smartwatch.py

The recordings of six axes at 50 Hz are cut into windows of 3.2 s that do not overlap, and the rest of a recording is left
out. A row holds the subject, the features of each axis in turn and the exercise; the rows are ordered by subject, so that
the last ones belong to subjects of their own. Numbers have four significant digits.
"""

import gzip
import importlib.util
import pathlib

import numpy

WINDOW = 160


def features(axis):
    """Mean, standard deviation, minimum, maximum, mean size of a step, share of steps that cross the mean."""
    centred = axis - axis.mean()
    crossings = numpy.signbit(centred[1:]) != numpy.signbit(centred[:-1])
    return [axis.mean(), axis.std(), axis.min(), axis.max(), numpy.abs(numpy.diff(axis)).mean(), crossings.mean()]


def main():
    # Found without importing the package, which would ask for all that it depends on.
    package = pathlib.Path(importlib.util.find_spec("seglearn").origin).parent
    data = numpy.load(package / "data" / "watch_dataset.npy", allow_pickle=True).item()
    names = ["mean", "deviation", "minimum", "maximum", "step", "crossings"]
    lines = [",".join(["subject", *(f"{axis} {name}" for axis in data["X_labels"] for name in names), "exercise"])]
    recordings = zip(data["subject"], data["y"], data["side"], data["X"], strict=True)
    for subject, exercise, _, recording in sorted(recordings, key=lambda recording: recording[:3]):
        for start in range(0, len(recording) - WINDOW + 1, WINDOW):
            window = recording[start : start + WINDOW].T
            numbers = [format(number, ".4g") for axis in window for number in features(axis)]
            lines.append(",".join([str(int(subject)), *numbers, data["y_labels"][int(exercise)]]))
    target = pathlib.Path(__file__).with_name("smartwatch.csv.gz")
    target.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
