"""A LightningModule, trained epoch by epoch: Lightning's own checkpoint is the state, so it resumes exactly.

pip install lightning; raysweep run search_spaces/own/lightning_module.yaml
"""

import logging
import tempfile
import warnings
from pathlib import Path

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")
digits = load_digits()
everything = TensorDataset(torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target))
training, validation = random_split(everything, [1500, 297], torch.Generator().manual_seed(0))
QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Digits(lightning.LightningModule):
    def __init__(self, lr: float, width: int):
        super().__init__()
        self.lr, self.net = lr, nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, _):
        output = self.net(batch[0])
        self.log("val_loss", nn.functional.cross_entropy(output, batch[1]))
        self.log("val_accuracy", (output.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def train(lr: float, width: int, epochs: int = 6, seed: int = 0, state=None):
    module, start = Digits(lr, width), state["epoch"] if state else 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "last.ckpt"
        if state:
            path.write_bytes(state["checkpoint"])
        for epoch in range(start + 1, epochs + 1):
            lightning.seed_everything(seed + epoch, verbose=False)
            trainer = lightning.Trainer(max_epochs=epoch, **QUIET)
            loaders = DataLoader(training, 64, shuffle=True), DataLoader(validation, 297)
            trainer.fit(module, *loaders, ckpt_path=path if path.exists() else None)
            trainer.save_checkpoint(path)
            yield dict(trainer.callback_metrics), {"epoch": epoch, "checkpoint": path.read_bytes()}
