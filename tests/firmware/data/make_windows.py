"""Makes windows.bin, and tuning.csv for the weights to start from, out of std-adapter/data/smartwatch.csv.gz, whose source and
licence stand there:

    python tests/firmware/data/make_windows.py

A row of windows.bin is 38 bytes: the part it plays, the exercise, and 36 features as i8 in units of 1/32 of a standard
deviation (over subjects 1 to 8), cut at +-127. Parts: 0, to learn from scratch, every third window of subjects 1 to 8;
1, to adapt to, every other window of subjects 9 and 10; 2, held out, the other half of these. tuning.csv holds the same
features of all windows of subjects 1 to 5.
"""

import csv
import gzip
import io
import pathlib
import statistics

HERE = pathlib.Path(__file__).parent
SOURCE = HERE.parents[2] / "std-adapter" / "data" / "smartwatch.csv.gz"


def main():
    rows = list(csv.reader(io.StringIO(gzip.decompress(SOURCE.read_bytes()).decode())))
    names, rows = rows[0], rows[1:]
    exercises = sorted({row[-1] for row in rows})
    subjects = [int(row[0]) for row in rows]
    features = [[float(x) for x in row[1:-1]] for row in rows]
    known = [values for subject, values in zip(subjects, features) if subject <= 8]
    scales = [(statistics.fmean(column), statistics.pstdev(column)) for column in zip(*known)]
    whole = [[max(-127, min(127, round(32 * (x - m) / s))) for x, (m, s) in zip(values, scales)] for values in features]
    out = bytearray()
    seen = {True: 0, False: 0}
    for subject, row, values in zip(subjects, rows, whole):
        new = subject > 8
        index = seen[new]
        seen[new] += 1
        if not new and index % 3:
            continue
        part = 1 + index % 2 if new else 0
        out += bytes([part, exercises.index(row[-1])]) + bytes(value & 0xFF for value in values)
    (HERE / "windows.bin").write_bytes(out)
    target = HERE.parents[2] / "target" / "tuning.csv"
    target.parent.mkdir(exist_ok=True)
    with target.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names[1:-1], "exercise"])
        for subject, row, values in zip(subjects, rows, whole):
            if subject <= 5:
                writer.writerow([*(value / 32 for value in values), exercises.index(row[-1])])


if __name__ == "__main__":
    main()
