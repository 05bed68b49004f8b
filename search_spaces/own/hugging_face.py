"""The Trainer of Hugging Face's transformers, stopped after each epoch: its checkpoint folder is the state.

pip install transformers accelerate; raysweep run search_spaces/own/hugging_face.yaml
"""

import tempfile
from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils.logging import set_verbosity_error

set_verbosity_error()
tokens = torch.randint(
    0, 50, (320, 12), generator=torch.Generator().manual_seed(0)
)  # is there a 7 among them?
rows = [{"input_ids": row, "labels": int((row == 7).any())} for row in tokens]
QUIET = {"report_to": "none", "disable_tqdm": True, "logging_strategy": "no", "save_strategy": "no"}


class OneEpoch(TrainerCallback):
    def on_epoch_end(self, args, state, control, **_):
        control.should_save = control.should_training_stop = True
        return control


def accuracy(prediction):
    return {"accuracy": (prediction.predictions.argmax(1) == prediction.label_ids).mean()}


def train(lr: float, hidden: int, epochs: int = 3, seed: int = 0, state=None):
    sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_attention_heads": 2}
    config = BertConfig(vocab_size=50, num_hidden_layers=1, **sizes)
    data = {"train_dataset": rows[:256], "eval_dataset": rows[256:], "compute_metrics": accuracy}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (state["files"] if state else {}).items():
            path = Path(folder) / "checkpoint-0" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        options = TrainingArguments(folder, learning_rate=lr, num_train_epochs=epochs, seed=seed, **QUIET)
        for epoch in range((state["epoch"] if state else 0) + 1, epochs + 1):
            model = BertForSequenceClassification(config)
            trainer = Trainer(model, options, callbacks=[OneEpoch()], **data)
            trainer.train(resume_from_checkpoint=get_last_checkpoint(folder))
            found = trainer.evaluate()
            files = {p.name: p.read_bytes() for p in Path(get_last_checkpoint(folder)).iterdir()}
            metrics = {name: found[name] for name in ("eval_loss", "eval_accuracy")}
            yield metrics, {"epoch": epoch, "files": files}
