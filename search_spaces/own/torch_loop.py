"""A PyTorch loop with a DataLoader: it resumes exactly, and its best model can predict.

raysweep run search_spaces/own/torch_loop.yaml
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
everything = TensorDataset(images, torch.tensor(digits.target))
training, validation = random_split(everything, [1500, 297], torch.Generator().manual_seed(0))


def network(channels: int, dropout: float) -> nn.Sequential:
    features = [nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*features, nn.Dropout(dropout), nn.Linear(16 * channels, 10))


def train(
    lr: float, channels: int, dropout: float, batch_size: int = 64, epochs: int = 8, seed: int = 0, state=None
):
    model = network(channels, dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    start = 0
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["epoch"]
    for epoch in range(start + 1, epochs + 1):
        torch.manual_seed(seed + epoch)  # so that a resumed trial continues exactly
        model.train()
        for x, y in DataLoader(training, batch_size, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            x, y = validation[:]
            output = model(x)
        metrics = {
            "val_accuracy": (output.argmax(1) == y).float().mean(),
            "val_loss": nn.functional.cross_entropy(output, y),
        }
        state = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
        yield metrics, state


def export(point, state, folder):
    import mlflow

    model = network(point["channels"], point["dropout"])
    model.load_state_dict(state["model"])
    mlflow.pytorch.save_model(model.eval(), folder, serialization_format="pickle")
