"""The main job: a pruned model.pt becomes a document and an ONNX model and comes back, the same bit by bit."""

import subprocess
import sys
from pathlib import Path

import digits
import torch
from onnxruntime import InferenceSession
from tabulate import tabulate

import deepstruct


def run(*arguments: str) -> None:
    """Runs the command `deepstruct` and shows it."""
    print("$ deepstruct", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "deepstruct", *arguments], check=True)


def main(folder: Path) -> None:
    """Runs everything in a folder and prints one table of what came out."""
    digits.main(folder)
    names = ("model.pt", "digits.structure.json", "digits.onnx", "back.pt")
    pt, document, onnx, back = (str(folder / name) for name in names)
    run("convert", pt, document, "--force")
    run("validate", document)
    run("info", document)
    run("convert", document, onnx, "--force")
    run("convert", onnx, back, "--force")
    run("verify", pt, onnx)
    model = deepstruct.load(pt)
    same = all(deepstruct.load(path) == model for path in (document, onnx, back))
    print("masks and kept weights bitwise equal all the way round:", same)
    _, x_test, _, y_test = digits.data()
    with torch.no_grad():
        expected = deepstruct.to_module(model)(x_test)
        session = InferenceSession(onnx)
        outputs = {
            pt: expected,
            document: deepstruct.to_module(deepstruct.load(document))(x_test),
            onnx: torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x_test.numpy()})[0]),
            back: deepstruct.to_module(deepstruct.load(back))(x_test),
        }
    rows: list[tuple[str, int, str, str, str]] = []
    for path, output in outputs.items():
        files = [Path(path), *([folder / "digits.safetensors"] if path == document else [])]
        name, size = " + ".join(file.name for file in files), sum(file.stat().st_size for file in files)
        density, accuracy = deepstruct.load(path).structure.density, digits.accuracy(output, y_test)
        difference = float((output - expected).abs().max())
        same &= difference <= 1e-4
        rows.append((name, size, f"{density:.2%}", f"{accuracy:.2%}", f"{difference:.2g}"))
    print(tabulate(rows, ["artefact", "bytes", "density", "accuracy", "largest difference"], intfmt=","))
    if not same or len({row[3] for row in rows}) > 1:
        sys.exit("the artefacts are not the same network")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
