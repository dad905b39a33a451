"""Writes models as people train and export them, with onnxruntime's answers.

    python generate.py FOLDER [--only TEXT]
    python generate.py --sample

The second form writes the committed sample, which tests without Python use. `index.json` says what was made for each converter of skl2onnx, and what the exporters and onnxruntime could not do. README.md explains the rest.
"""

import argparse
import json
import multiprocessing
import os
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.append(str(HERE.parent / "python"))

import numpy as np  # noqa: E402

import case  # noqa: E402
import parts  # noqa: E402


# The committed sample: small models of every family.
SAMPLE = """
labelencoder_strings labelbinarizer_integers kernelcenterer tweedieregressor ridge_three_outputs linearregression_f64 pca_f64 ordinalencoder_unknown
onehotencoder_strings_ignore targetencoder_strings simpleimputer_median standardscaler_missing powertransformer_box_cox normalizer_l2 svr_rbf
svc_rbf_five_strings nusvc_binary linearsvc_three complementnb_binary_strings gaussiannb_three categoricalnb kmeans countvectorizer_stop_words
tfidfvectorizer_sublinear pipeline_tfidf_logistic pipeline_zipmap_three pipeline_opset_9 columntransformer_passthrough multioutputregressor
multioutputclassifier dictvectorizer_numbers featurehasher_strings decisiontreeclassifier_binary_strings calibratedclassifiercv_sigmoid_logistic_binary
gaussianmixture_diag mlpclassifier_relu_binary kneighborsregressor_three_outputs kbinsdiscretizer_onehot_dense adaboostregressor_linear
xgboost_classifier_single_tree catboost_regressor_missing lightgbm_regressor_poisson lightgbm_classifier_categories histgradientboostingregressor_missing
networks_keras_lstm networks_torch_gru networks_keras_convolution networks_torch_mlp
""".split()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path, nargs="?")
    arguments.add_argument("--only", default="")
    arguments.add_argument("--sample", action="store_true")
    arguments = arguments.parse_args()
    warnings.filterwarnings("ignore")
    folder = HERE / "sample" if arguments.sample else arguments.folder
    if folder is None:
        raise SystemExit("say where the models go")
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.iterdir():
        if arguments.only in stale.name:
            stale.unlink()
    names = [name for name, _ in parts.jobs()]
    twice = sorted({name for name in names if names.count(name) > 1})
    unknown = sorted(set(SAMPLE) - set(names))
    if twice or unknown:
        raise SystemExit(f"two models are called {twice}; of the sample, {unknown} are not there")
    positions = [k for k, name in enumerate(names) if arguments.only in name and (name in SAMPLE or not arguments.sample)]
    workers = max(1, min(8, os.cpu_count() or 1))
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, context, initializer=start, initargs=(folder,)) as pool:
        records = list(pool.map(make, positions, chunksize=4))
    if not arguments.sample:
        index = {"models": records, "converters": parts.converters()}
        (folder / "index.json").write_text(json.dumps(index, indent=1))
    made = sum(1 for record in records if "problem" not in record)
    print(f"{made} models of {len(records)}")


FOLDER = JOBS = None


def start(folder):
    global FOLDER, JOBS
    warnings.filterwarnings("ignore")
    FOLDER, JOBS = folder, parts.jobs()


def make(position):
    """Makes one model; says what came of it."""
    name, build = JOBS[position]
    record = {"name": name}
    np.random.seed(0)
    try:
        made = build()
    except Exception as error:
        return {**record, "of": getattr(build, "of", None), "problem": f"{type(error).__name__}: {case.first_line(error)}", "by": "exporter"}
    record["of"] = made["of"]
    try:
        answers = case.write(FOLDER, name, made["model"], made["requests"], made.get("tolerance"))
    except case.NotRunnable as error:
        return {**record, "problem": str(error), "by": "onnxruntime"}
    trained = made.get("trained")
    if trained is not None:
        record["differs"] = trained(answers)
    return record


if __name__ == "__main__":
    main()
