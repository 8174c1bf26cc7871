"""Makes series.bin, windows of a smartwatch's six axes as they were recorded, from the Python package seglearn (1.2.5) and numpy:

    pip install numpy && pip install --no-deps seglearn==1.2.5 && python tests/firmware/data/make_series.py

std-adapter/data/make_smartwatch.py makes features of the same windows; source and licence stand beside it. A row of series.bin is
194 bytes: the part it plays, the exercise, and for each axis 32 samples, means of a tenth of a second, as i8 in units of 1/32 of
the axis's standard deviation over subjects 1 to 8, cut at +-127. Parts: 0, to learn from scratch, every eighth window of subjects
1 to 8; 2, held out, every other window of subjects 9 and 10.
"""

import importlib.util
import pathlib

import numpy

WINDOW = 160
SAMPLES = 32
HERE = pathlib.Path(__file__).parent


def main():
    # Found without importing the package, which would ask for all that it depends on.
    package = pathlib.Path(importlib.util.find_spec("seglearn").origin).parent
    data = numpy.load(package / "data" / "watch_dataset.npy", allow_pickle=True).item()
    recordings = zip(data["subject"], data["y"], data["side"], data["X"], strict=True)
    recordings = sorted(recordings, key=lambda recording: recording[:3])
    known = numpy.concatenate([series for subject, _, _, series in recordings if subject <= 8])
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    out, seen = bytearray(), {True: 0, False: 0}
    for subject, exercise, _, series in recordings:
        new = subject > 8
        for start in range(0, len(series) - WINDOW + 1, WINDOW):
            index = seen[new]
            seen[new] += 1
            if index % (2 if new else 8):
                continue
            window = (series[start : start + WINDOW] - mean) / deviation
            means = window.reshape(SAMPLES, WINDOW // SAMPLES, 6).mean(axis=1).T
            values = numpy.clip(numpy.rint(32 * means), -127, 127).astype(numpy.int8)
            out += bytes([2 if new else 0, int(exercise)]) + values.tobytes()
    (HERE / "series.bin").write_bytes(out)


if __name__ == "__main__":
    main()
