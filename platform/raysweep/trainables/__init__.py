"""What is trained: data, the multilayer perceptron, transfer learning. No Ray and no MLflow here.

A trainable is a generator function: its keyword arguments are its hyperparameters, and it yields `(metrics, state)`
once per epoch. `state` (tensors and plain types) is all it needs to resume: called again with `state=`, it
continues from there. If it takes `seed`, each execution gets its own. Every trainable runs under `list()`.
"""
