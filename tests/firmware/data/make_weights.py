"""Makes weights.bin, the weights that the learner firmware starts from, after make_windows.py:

    cargo ekfac train --data target/tuning.csv --task classify --layers 36,16,7 --standardise no --validation 0 \\
        --batch 16 --epochs 5 --out target/tuning --overwrite
    python tests/firmware/data/make_weights.py

Layer after layer, column after column, bias last, f32 little endian: as core stores them.
"""

import json
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
SOURCE = HERE.parents[2] / "target" / "tuning" / "weights.safetensors"


def main():
    data = SOURCE.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]

    def tensor(name):
        start, end = header[name]["data_offsets"]
        return struct.unpack(f"<{(end - start) // 4}f", body[start:end]), header[name]["shape"]

    words = []
    for layer in range(2):
        weights, (rows, inputs) = tensor(f"layers.{layer}.weight")
        bias, _ = tensor(f"layers.{layer}.bias")
        words += [weights[row * inputs + column] for column in range(inputs) for row in range(rows)]
        words += bias
    (HERE / "weights.bin").write_bytes(struct.pack(f"<{len(words)}f", *words))


if __name__ == "__main__":
    main()
