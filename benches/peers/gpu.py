"""What gpu_check (benches/examples/gpu_check) asks of PyTorch on a GPU. Not called by hand.

    gpu.py [--device cuda] MODEL PROMPT

loads the model, prints `ready` with versions and the card (or why not), and then answers each line `TASK CONTESTANT TEXTS OUT`
(with tabs) of standard input: does the work with the texts of a file, writes what comes out to OUT (little-endian f32), and prints
the seconds that it took, or why it can't be done. TASK is evaluate, step, gradient or probe, CONTESTANT one of:

- reference: the published implementation's way of working, as in speed_peers.py.
- frozen: what a user of PyTorch gets without giving up padding: texts sorted by length (not in training), as many in a batch as keep a
  card busy, the head at the answer's row and for the label words only, gradients of the prompt alone, averages on the card.
- bf16: frozen, all in bfloat16.
- compiled: bf16, by torch.compile.
"""

import sys
import time
import warnings

import numpy
import torch
import transformers
from torch.nn import functional

import speed_peers
from speed_inputs import BATCH, LAYERS, PROMPT, VERBALIZER, batches, read_texts
from speed_peers import AtAnswer, Everywhere

ROWS = 16384  # the most rows of a batch, padding counted: what skn has


class Contestant:
    def __init__(self, name, model, prompt, device):
        self.is_reference, self.device = name == "reference", device
        self.model = (Everywhere if self.is_reference else AtAnswer)(model, prompt).eval().to(device)
        if name in ("bf16", "compiled"):
            # The prompt and its moments stay fp32.
            self.model.backbone.to(torch.bfloat16)
        # The wrapped forward is what is called; parameters are the same.
        self.forward = torch.compile(self.model, dynamic=True) if name == "compiled" else self.model
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam([self.model.prompt], lr=1e-3, eps=1e-6, betas=(0.9, 0.98))
        self.clipped = parameters

    def batch_of(self, texts):
        ids, attention, labels = speed_peers.batch_of(texts)
        return ids.to(self.device), attention.to(self.device), labels.to(self.device)

    def batches(self, texts):
        """Indexes of the texts of each batch."""
        lengths = [len(ids) for _, ids in texts]
        if self.is_reference:
            return batches(lengths, False)
        found, batch = [], []
        for row in sorted(range(len(lengths)), key=lengths.__getitem__):
            if batch and (len(batch) + 1) * (PROMPT + lengths[row]) > ROWS:
                found.append(batch)
                batch = []
            batch.append(row)
        return [*found, batch]

    def evaluate(self, texts):
        logits = numpy.zeros((len(texts), len(VERBALIZER)), dtype=numpy.float32)
        with torch.no_grad():
            for batch in self.batches(texts):
                ids, attention, _ = self.batch_of([texts[row] for row in batch])
                logits[batch] = self.forward(ids, attention).float().cpu().numpy()
        return logits

    def step(self, texts):
        """A step of training for each 16 texts; dropout is active."""
        self.model.train()
        losses = []
        for start in range(0, len(texts), BATCH):
            losses.append(self.backward(texts[start : start + BATCH]))
            torch.nn.utils.clip_grad_norm_(self.clipped, 1.0)
            self.optimizer.step()
            self.model.zero_grad()
        self.model.eval()
        return numpy.array(losses)

    def backward(self, texts):
        ids, attention, labels = self.batch_of(texts)
        loss = functional.cross_entropy(self.forward(ids, attention).float(), labels)
        loss.backward()
        return loss.item()

    def gradient(self, texts):
        """Loss and gradient of the prompt for one batch, without dropout."""
        loss = self.backward(texts)
        gradient = self.model.prompt.grad.float().cpu().numpy().ravel().copy()
        self.model.zero_grad()
        return numpy.concatenate([[loss], gradient])

    def probe(self, texts):
        """The probe acc: averages over the first half of the texts, how often each neuron is right over the second."""
        train, rest = texts[: len(texts) // 2], texts[len(texts) // 2 :]
        averages, right = [0.0] * LAYERS, [0.0] * LAYERS

        def average(layers, _):
            for layer, x in enumerate(layers):
                # The original hands activations to numpy; others leave them on the card.
                x, kind = x[:, :PROMPT], torch.float64
                if self.is_reference:
                    x, kind = x.cpu().numpy(), numpy.float64
                averages[layer] = averages[layer] + x.sum(0, dtype=kind) / len(train)

        def count(layers, labels):
            for layer, x in enumerate(layers):
                x = x[:, :PROMPT]
                if self.is_reference:
                    fires = x.cpu().numpy() > averages[layer].astype(numpy.float32)
                    same = fires == labels.cpu().numpy().reshape(-1, 1, 1)
                else:
                    same = (x > averages[layer]) == labels.reshape(-1, 1, 1)
                right[layer] = right[layer] + same.sum(0)

        self.watch(train, average)
        self.watch(rest, count)
        return numpy.stack([torch.as_tensor(layer).cpu().numpy() for layer in right]).ravel()

    def watch(self, texts, process):
        """A pass in which `process` gets the activations of all layers, a batch at a time."""
        layers = [None] * LAYERS
        keep = lambda layer: lambda module, inputs, output: layers.__setitem__(layer, output)
        modules = self.model.backbone.roberta.encoder.layer
        hooks = [module.intermediate.register_forward_hook(keep(layer)) for layer, module in enumerate(modules)]
        with torch.no_grad():
            for batch in self.batches(texts):
                ids, attention, labels = self.batch_of([texts[row] for row in batch])
                # Not compiled: what is compiled calls no hooks that come later.
                self.model(ids, attention)
                process(layers, labels)
        for hook in hooks:
            hook.remove()


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def serve(device, model, prompt):
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        return print("PyTorch sees no card", flush=True)
    card = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    contestants = {}
    print(f"ready PyTorch {torch.__version__}, transformers {transformers.__version__}, {card}", flush=True)
    for line in sys.stdin:
        task, name, texts, out = line.rstrip("\n").split("\t")
        try:
            if name not in contestants:
                contestants[name] = Contestant(name, model, prompt, device)
            work = getattr(contestants[name], task)
            texts = read_texts(texts)
            wait(device)
            begun = time.monotonic()
            result = work(texts)
            wait(device)
            seconds = time.monotonic() - begun
            result.astype(numpy.float32).tofile(out)
            print(seconds, flush=True)
        except Exception as error:  # of whatever the machine lacks: a C++ compiler for torch.compile, most often
            print("can't:", " ".join(str(error).split())[:200] or type(error).__name__, flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    # Only the answers go to standard output.
    device = sys.argv[2] if sys.argv[1] == "--device" else "cuda"
    serve(device, *sys.argv[-2:])
