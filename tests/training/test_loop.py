"""The training loop: it learns, repeats itself, goes on after a kill, stops where it must, and leaves its files."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from cases import change_config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_training_dataset_helpers import with_observations  # noqa: F401
from training_cases import ALONE, at, change_training, train, weights_of, write_training_case

from bmi_cdlm.checkpoint import fingerprint, load_checkpoint
from bmi_cdlm.config import load_config
from bmi_cdlm.errors import CheckpointError, OutputError
from bmi_cdlm.evaluation import evaluate  # noqa: F401
from bmi_cdlm.parameters import DAY, HOUR
from cdlm_training.loop import Trainer, TrainingError
