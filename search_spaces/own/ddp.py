"""One training on several GPUs under DistributedDataParallel of your own; on CPUs with gloo.

raysweep run search_spaces/own/ddp.yaml
"""

import io
import os
import socket

import torch
from torch import distributed, multiprocessing, nn

x = torch.linspace(-3, 3, 256).unsqueeze(1)
y = torch.sin(x)


def rank(number: int, size: int, port: int, given: dict, results) -> None:
    """One process: it trains on its own part of the samples, and the first reports."""
    gpus = torch.cuda.is_available()
    device = torch.device("cuda", number) if gpus else torch.device("cpu")
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("nccl" if gpus else "gloo", rank=number, world_size=size)
    torch.manual_seed(given["seed"])
    net = nn.Sequential(nn.Linear(1, given["width"]), nn.Tanh(), nn.Linear(given["width"], 1)).to(device)
    model, state = nn.parallel.DistributedDataParallel(net), given["state"]
    optimizer = torch.optim.Adam(model.parameters(), lr=given["lr"])
    if state:
        saved = torch.load(io.BytesIO(state["saved"]), map_location=device)
        net.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    my_x, my_y = x[number::size].to(device), y[number::size].to(device)
    for epoch in range((state["epoch"] if state else 0) + 1, given["epochs"] + 1):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(my_x), my_y).backward()
        optimizer.step()
        if number == 0:
            loss = nn.functional.mse_loss(net(x.to(device)), y.to(device)).item()
            saved = {"model": net.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(saved, buffer := io.BytesIO())
            results.put(({"loss": loss}, {"epoch": epoch, "saved": buffer.getvalue()}))
    distributed.destroy_process_group()


def train(lr: float, width: int, epochs: int = 10, seed: int = 0, state=None):
    size = torch.cuda.device_count() or 2  # the GPUs of this trial: see per_trial
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = multiprocessing.get_context("spawn").SimpleQueue()
    given = {"lr": lr, "width": width, "epochs": epochs, "seed": seed, "state": state}
    processes = multiprocessing.spawn(rank, (size, port, given, results), size, join=False)
    try:
        for _ in range(state["epoch"] if state else 0, epochs):
            while results.empty():
                processes.join(timeout=0.05)  # raises what a process has raised
            yield results.get()
    finally:
        for process in processes.processes:
            process.kill()
