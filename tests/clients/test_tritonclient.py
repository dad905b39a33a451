"""NVIDIA's HTTP client with its defaults: binary tensors in, binary tensors out."""

import csv
import json
import pathlib

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples/eurusd"
