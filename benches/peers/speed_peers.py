"""What speed.py asks of PyTorch and ONNX Runtime. Not called by hand.

    speed_peers.py TASK CONTESTANT MODEL PROMPT THREADS

loads the model, prints `ready` (or `skip: WHY`), and then answers each line `ROWS OUT` of standard input as
benches/examples/speed.rs does. TASK is evaluate, step, gradient or probe, and CONTESTANT one of:

- reference: the published implementation's work. Batches of 16 in the order of the file, padded; logits of the whole
  vocabulary at every position; in training the gradients of all parameters, whose norm is clipped; in probing a pass for each
  type and split, with all activations handed to numpy. Attention is what transformers takes by default, a fused one: faster
  than that of the time.
- frozen: what a user of PyTorch gets without giving up padding: texts sorted by length (not in training), the head at the
  answer's row and for the label words only, gradients of the prompt alone.
- compiled: frozen, by torch.compile.
- bf16: frozen, all in bfloat16.
- onnx: frozen, exported to ONNX Runtime and optimised.

The task `export` writes the ONNX model into the folder MODEL.
"""

import os
import sys
import time
import warnings

import numpy
import torch
import transformers
from safetensors.numpy import load_file
from torch.nn import functional
from transformers import RobertaForMaskedLM

from speed_inputs import HEADS, HIDDEN, LAYERS, PROMPT, VERBALIZER, batches, read_texts

NEURON = (9, 1893)  # whose activations at the prompt the probe `pos` keeps


class Prompted(torch.nn.Module):
    """RoBERTa with 16 rows before every text, of which the first is <mask>'s embedding and answers."""

    def __init__(self, model, prompt):
        super().__init__()
        self.backbone = RobertaForMaskedLM.from_pretrained(model)
        rows = torch.tensor(load_file(f"{prompt}/adapter_model.safetensors")["prompt_embeddings"])
        # The published implementation has gradients for the row of <mask> too, and never updates it.
        self.mask = torch.nn.Parameter(rows[None, :1].clone())
        self.prompt = torch.nn.Parameter(rows[None, 1:].clone())

    def inputs(self, ids, attention):
        words = self.backbone.roberta.embeddings.word_embeddings(ids).detach()
        count = ids.shape[0]
        rows = [row.to(words.dtype).repeat(count, 1, 1) for row in (self.mask, self.prompt)]
        ones = torch.ones((count, PROMPT), dtype=attention.dtype, device=attention.device)
        return {"inputs_embeds": torch.cat([*rows, words], dim=1), "attention_mask": torch.cat([ones, attention], dim=1)}


class Everywhere(Prompted):
    """Logits of the whole vocabulary at every position, of which two are read."""

    def forward(self, ids, attention):
        return self.backbone(**self.inputs(ids, attention)).logits[:, 0, VERBALIZER]


class AtAnswer(Prompted):
    """Logits of the label words at the answer's row; only the prompt trains."""

    def __init__(self, model, prompt):
        super().__init__(model, prompt)
        self.requires_grad_(False)
        self.prompt.requires_grad_(True)

    def forward(self, ids, attention):
        answer = self.backbone.roberta(**self.inputs(ids, attention)).last_hidden_state[:, 0]
        head = self.backbone.lm_head
        x = head.layer_norm(functional.gelu(head.dense(answer)))
        return functional.linear(x, head.decoder.weight[VERBALIZER], head.decoder.bias[VERBALIZER])


def batch_of(texts):
    """Ids and attention of texts, padded, and their classes."""
    ids = torch.ones((len(texts), max(len(ids) for _, ids in texts)), dtype=torch.long)
    attention = torch.zeros_like(ids, dtype=torch.float32)
    for row, (_, text) in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
        attention[row, : len(text)] = 1
    return ids, attention, torch.tensor([label for label, _ in texts])


class Torch:
    """The reference, frozen, compiled and bf16."""

    def __init__(self, contestant, model, prompt):
        self.is_reference = contestant == "reference"
        self.by_length = not self.is_reference
        self.model = (Everywhere if self.is_reference else AtAnswer)(model, prompt).eval()
        if contestant == "bf16":
            # The prompt and its moments stay fp32.
            self.model.backbone.to(torch.bfloat16)
        # The wrapped forward is what is called; parameters are the same.
        self.forward = torch.compile(self.model, dynamic=True) if contestant == "compiled" else self.model
        self.optimizer = torch.optim.Adam([self.model.prompt], lr=1e-3, eps=1e-6, betas=(0.9, 0.98))

    def evaluate(self, texts):
        logits = numpy.zeros((len(texts), len(VERBALIZER)), dtype=numpy.float32)
        with torch.no_grad():
            for batch in batches([len(ids) for _, ids in texts], self.by_length):
                ids, attention, labels = batch_of([texts[row] for row in batch])
                found = self.forward(ids, attention).float()
                functional.cross_entropy(found, labels).item()
                logits[batch] = found.numpy()
        return logits

    def step(self, texts):
        """A step of training for each batch, in the order of the file; dropout is active."""
        self.model.train()
        losses = []
        for batch in batches([len(ids) for _, ids in texts], False):
            loss = self.backward([texts[row] for row in batch])
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.model.zero_grad()
            losses.append(loss)
        self.model.eval()
        return numpy.array(losses)

    def backward(self, texts):
        ids, attention, labels = batch_of(texts)
        loss = functional.cross_entropy(self.forward(ids, attention).float(), labels)
        loss.backward()
        return loss.item()

    def gradient(self, texts):
        """Loss and gradient of the prompt for one batch, without dropout."""
        loss = self.backward(texts)
        gradient = self.model.prompt.grad.float().numpy().ravel().copy()
        self.model.zero_grad()
        return numpy.concatenate([[loss], gradient])

    def probe(self, texts):
        """All probes but `speed`: averages over the first half of the texts, how often each neuron is right over the second."""
        train, rest = texts[: len(texts) // 2], texts[len(texts) // 2 :]
        right = [self.probe_type(train, rest, reduce) for reduce in (at_prompt, mean_of_text, max_of_text)]
        self.watch(rest, lambda layers, *_: layers[NEURON[0]][:, :PROMPT, NEURON[1]].numpy())
        self.watch([(0, [0, 2])], lambda layers, *_: [x[:, 0].numpy() for x in layers])
        return numpy.concatenate([counts.ravel() for counts in right])

    def probe_type(self, train, rest, reduce):
        """A pass over train, one over the rest."""
        averages, right = [0.0] * LAYERS, [0.0] * LAYERS

        def average(layers, _, lengths):
            for layer, x in enumerate(layers):
                averages[layer] = averages[layer] + reduce(x, lengths).sum(axis=0, dtype=numpy.float64) / len(train)

        def count(layers, labels, lengths):
            for layer, x in enumerate(layers):
                fires = reduce(x, lengths) > averages[layer].astype(numpy.float32)
                same = fires == labels.numpy().reshape(-1, *[1] * (fires.ndim - 1))
                right[layer] = right[layer] + same.sum(axis=0)

        self.watch(train, average)
        self.watch(rest, count)
        return numpy.stack(right)

    def watch(self, texts, process):
        """A pass in which `process` gets the activations of all layers, a batch at a time."""
        layers = [None] * LAYERS

        def keep(layer):
            return lambda module, inputs, output: layers.__setitem__(layer, output)

        modules = self.model.backbone.roberta.encoder.layer
        hooks = [module.intermediate.register_forward_hook(keep(layer)) for layer, module in enumerate(modules)]
        with torch.no_grad():
            for batch in batches([len(ids) for _, ids in texts], self.by_length):
                chosen = [texts[row] for row in batch]
                ids, attention, labels = batch_of(chosen)
                self.model(ids, attention)
                process(layers, labels, [len(ids) for _, ids in chosen])
        for hook in hooks:
            hook.remove()


def at_prompt(x, _):
    return x[:, :PROMPT].numpy()


def mean_of_text(x, lengths):
    x = x.numpy()
    return numpy.stack([x[row, PROMPT : PROMPT + length].mean(axis=0) for row, length in enumerate(lengths)])


def max_of_text(x, lengths):
    x = x.numpy()
    return numpy.stack([x[row, PROMPT : PROMPT + length].max(axis=0) for row, length in enumerate(lengths)])


class Onnx:
    def __init__(self, model, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(f"{model}/onnx/optimised.onnx", options, ["CPUExecutionProvider"])

    def evaluate(self, texts):
        logits = numpy.zeros((len(texts), len(VERBALIZER)), dtype=numpy.float32)
        for batch in batches([len(ids) for _, ids in texts], True):
            ids, attention, _ = batch_of([texts[row] for row in batch])
            logits[batch] = self.session.run(None, {"ids": ids.numpy(), "attention": attention.numpy()})[0]
        return logits


def export(model, prompt):
    """Exports the frozen model, and fuses what ONNX Runtime's own optimiser for transformers finds."""
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    os.makedirs(f"{model}/onnx", exist_ok=True)
    frozen = AtAnswer(model, prompt).eval().requires_grad_(False)
    # The optimiser knows attention that is written out, and as the older exporter writes it: the newer one's it leaves unfused.
    frozen.backbone.set_attn_implementation("eager")
    ids, attention, _ = batch_of([(0, [0, 5, 6, 2]), (0, [0, 5, 2])])
    sizes = {0: "texts", 1: "tokens"}
    plain = f"{model}/onnx/plain.onnx"
    torch.onnx.export(
        frozen, (ids, attention), plain, input_names=["ids", "attention"], output_names=["logits"],
        dynamic_axes={"ids": sizes, "attention": sizes}, dynamo=False, opset_version=17,
    )  # fmt: skip
    optimised = optimize_model(
        plain, "bert", num_heads=HEADS, hidden_size=HIDDEN, opt_level=0, optimization_options=FusionOptions("bert")
    )
    assert optimised.get_fused_operator_statistics()["Attention"] == LAYERS, "attention is not fused"
    optimised.save_model_to_file(f"{model}/onnx/optimised.onnx")
    os.remove(plain)


def serve(task, contestant, model, prompt, threads):
    torch.set_num_threads(threads)
    worker = Onnx(model, threads) if contestant == "onnx" else Torch(contestant, model, prompt)
    work = getattr(worker, task)
    if contestant == "compiled":
        try:
            work([(0, [0, 5, 2])] * 2)
        except Exception as error:  # of whatever the machine lacks: a C++ compiler, most often
            return print("skip:", str(error).strip().splitlines()[0], flush=True)
    print("ready", flush=True)
    for line in sys.stdin:
        rows, out = line.split()
        texts = read_texts(rows)
        begun = time.monotonic()
        result = work(texts)
        seconds = time.monotonic() - begun
        result.astype(numpy.float32).tofile(out)
        print(seconds, flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    task, contestant, model, prompt, threads = sys.argv[1:]
    export(model, prompt) if task == "export" else serve(task, contestant, model, prompt, int(threads))
