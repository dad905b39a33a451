"""Writes cases of our own, with onnxruntime's answers, into a folder in the form of `backend.py`.

    python generate.py FOLDER [--seed N] [FAMILY…]

They cover what the `onnx` package's own cases leave out: the operators of ai.onnx.ml with every attribute, in every operator set; operators on
texts; recurrent layers, convolutions and products over their attributes. Models have a free batch, so that both engines get them; equal seeds give equal files.
What onnxruntime itself refuses is counted and left out.
"""

import argparse
import warnings
from pathlib import Path

import ml
import network
import texts
import trees
from cases import Cases

FAMILIES = {"trees": trees, "ml": ml, "texts": texts, "network": network}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("families", nargs="*", metavar="FAMILY", choices=[*FAMILIES, []], help=", ".join(FAMILIES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--refused", action="store_true", help="lists what onnxruntime refuses")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for stale in arguments.folder.iterdir():
        stale.unlink()
    cases = Cases(arguments.folder)
    for name in arguments.families or FAMILIES:
        FAMILIES[name].generate(cases, arguments.seed)
    written = len(list(arguments.folder.glob("*.onnx")))
    print(f"{written} cases of {len(cases.names)} operators; onnxruntime refuses {sum(map(len, cases.refused.values()))} more or requests of them")
    if arguments.refused:
        for lines in cases.refused.values():
            print("\n".join(lines))


if __name__ == "__main__":
    main()
