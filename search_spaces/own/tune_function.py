"""A function that was written for Ray Tune runs as it is. raysweep keeps the best checkpoint that it reports, and
resumes a lost trial from the newest.

raysweep run search_spaces/own/tune_function.yaml
"""

import tempfile
from pathlib import Path

import torch
from ray import tune

x = torch.linspace(-3, 3, 200).unsqueeze(1)
y = torch.sin(x)


def train(config):
    width = config["width"]
    model = torch.nn.Sequential(torch.nn.Linear(1, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    start = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            saved = torch.load(Path(folder) / "checkpoint.pt")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["epoch"]
    for epoch in range(start + 1, config["epochs"] + 1):
        loss = torch.nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with tempfile.TemporaryDirectory() as folder:
            saved = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(saved, Path(folder) / "checkpoint.pt")
            tune.report({"loss": loss.item()}, checkpoint=tune.Checkpoint.from_directory(folder))
