"""PyTorch, ONNX Runtime and llama.cpp at the work that decoder.py times. A process of its own for each: reads lines `ROWS OUT`, does the
work with the texts of the file ROWS, writes the result to OUT, prints the seconds it took.

- torch: transformers' model, frozen, with PyTorch's own attention (sdpa); texts sorted by length in batches of 16, padded behind, where no row of
  a text sees it, so that there is no mask; logits of the two words at the last row only. A step has the gradient of the prompt alone. Probing
  is one pass over each half, averages and counts in numpy.
- onnx: the same model written with plain operations (checked against the reference), exported, optimised by ONNX Runtime.
- llama-alone: llama.cpp, one text at a time; llama-batch: as many texts at once as 512 tokens hold, each a sequence of its own. Both: logits of
  a text's last token only, weights in the precision of the file.
"""

import ctypes
import sys
import time
from pathlib import Path

import numpy

from decoder_inputs import EPS, HEAD, HEADS, KEY_HEADS, LAYERS, PROMPT, THETA, WORDS, batches, read_texts


class Torch:
    def __init__(self, model, prompt, threads):
        import torch
        from safetensors.numpy import load_file
        from transformers import LlamaForCausalLM

        self.torch = torch
        torch.set_num_threads(threads)
        whole = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="sdpa").eval()
        self.model = whole.model.requires_grad_(False)
        self.words = whole.lm_head.weight[WORDS].detach().clone()
        if prompt != "-":
            rows = load_file(f"{prompt}/prompt.safetensors")["prompt_embeddings"]
            self.prompt = torch.nn.Parameter(torch.tensor(rows))
            self.optimizer = torch.optim.Adam([self.prompt], lr=1e-3, eps=1e-6, betas=(0.9, 0.98))

    def padded(self, texts):
        """Ids, padded behind, and each text's last row."""
        longest = max(len(ids) for _, ids in texts)
        ids = self.torch.tensor([ids + [0] * (longest - len(ids)) for _, ids in texts])
        return ids, self.torch.tensor([len(ids) - 1 for _, ids in texts])

    def answers(self, hidden, last):
        return hidden[self.torch.arange(len(last)), last] @ self.words.T

    def evaluate(self, texts):
        logits = numpy.zeros((len(texts), len(WORDS)), dtype=numpy.float32)
        with self.torch.no_grad():
            for batch in batches([len(ids) for _, ids in texts], True):
                ids, last = self.padded([texts[row] for row in batch])
                logits[batch] = self.answers(self.model(input_ids=ids, use_cache=False).last_hidden_state, last).numpy()
        return logits

    def loss(self, texts):
        torch = self.torch
        ids, last = self.padded(texts)
        words = self.model.embed_tokens(ids).detach()
        rows = torch.zeros((len(texts), words.shape[1] + PROMPT, words.shape[2]))
        rows[:, : words.shape[1]] = words
        # The prompt stands right behind each text, padding behind it.
        places = (last[:, None] + 1 + torch.arange(PROMPT))[:, :, None].expand(-1, -1, words.shape[2])
        rows = rows.scatter(1, places, self.prompt.expand(len(texts), -1, -1))
        hidden = self.model(inputs_embeds=rows, use_cache=False).last_hidden_state
        labels = torch.tensor([label for label, _ in texts])
        return torch.nn.functional.cross_entropy(self.answers(hidden, last + PROMPT), labels)

    def gradient(self, texts):
        """Loss and the prompt's gradient of one batch."""
        loss = self.loss(texts)
        loss.backward()
        gradient = self.prompt.grad.numpy().ravel().copy()
        self.prompt.grad = None
        return numpy.concatenate([[loss.item()], gradient])

    def step(self, texts):
        losses = []
        for batch in batches([len(ids) for _, ids in texts], False):
            loss = self.loss([texts[row] for row in batch])
            loss.backward()
            self.torch.nn.utils.clip_grad_norm_([self.prompt], 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            losses.append(loss.item())
        return numpy.array(losses)

    def probe(self, texts):
        """Averages over the first half of the texts, how often each neuron is right over the second: at the last token, of the mean and of the
        largest activation."""
        train, rest = texts[: len(texts) // 2], texts[len(texts) // 2 :]
        sums = numpy.zeros(())
        for pooled, _ in self.pooled(train):
            sums = sums + pooled.sum(axis=0, dtype=numpy.float64)
        averages, right = (sums / len(train)).astype(numpy.float32), 0
        for pooled, labels in self.pooled(rest):
            right = right + ((pooled > averages) == labels[:, None, None, None]).sum(axis=0)
        return right.ravel()

    def pooled(self, texts):
        """For each batch activations [texts, 3, layers, neurons] and labels."""
        torch, layers = self.torch, self.model.layers
        for batch in batches([len(ids) for _, ids in texts], True):
            chosen = [texts[row] for row in batch]
            ids, last = self.padded(chosen)
            inside = (torch.arange(ids.shape[1]) <= last[:, None])[:, :, None]
            found = []

            def pool(_, given):
                x = given[0]
                mean = (x * inside).sum(dim=1) / (last[:, None] + 1)
                most = x.masked_fill(~inside, -torch.inf).amax(dim=1)
                found.append(torch.stack([x[torch.arange(len(last)), last], mean, most], dim=1))

            hooks = [layer.mlp.down_proj.register_forward_pre_hook(pool) for layer in layers]
            with torch.no_grad():
                self.model(input_ids=ids, use_cache=False)
            for hook in hooks:
                hook.remove()
            yield torch.stack(found, dim=2).numpy(), numpy.array([label for label, _ in chosen]) == 1


class Onnx:
    def __init__(self, model, _, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(f"{model}/onnx/model.onnx", options, ["CPUExecutionProvider"])

    def evaluate(self, texts):
        logits = numpy.zeros((len(texts), len(WORDS)), dtype=numpy.float32)
        for batch in batches([len(ids) for _, ids in texts], True):
            chosen = [texts[row][1] for row in batch]
            longest = max(map(len, chosen))
            ids = numpy.array([ids + [0] * (longest - len(ids)) for ids in chosen], dtype=numpy.int64)
            last = numpy.array([len(ids) - 1 for ids in chosen], dtype=numpy.int64)
            logits[batch] = self.session.run(None, {"ids": ids, "last": last})[0]
        return logits


def export(model):
    """The ONNX model, of plain operations."""
    import torch
    from safetensors.numpy import load_file

    tensors = {name: torch.tensor(value) for name, value in load_file(f"{model}/model.safetensors").items()}

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inverse = THETA ** (-torch.arange(0, HEAD, 2) / HEAD)

        def norm(self, x, name):
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * tensors[f"{name}.weight"]

        def turn(self, x, cosine, sine):
            first, second = x[..., : HEAD // 2], x[..., HEAD // 2 :]
            return x * cosine + torch.cat([-second, first], dim=-1) * sine

        def forward(self, ids, last):
            x = tensors["model.embed_tokens.weight"][ids]
            angles = torch.arange(ids.shape[1])[:, None] * self.inverse
            angles = torch.cat([angles, angles], dim=-1)
            cosine, sine = angles.cos(), angles.sin()
            places = torch.arange(ids.shape[1])
            unseen = torch.where(places[None] > places[:, None], -1e9, 0.0)
            for layer in range(LAYERS):
                of = f"model.layers.{layer}"
                heads = lambda part, count, y: (y @ tensors[f"{of}.self_attn.{part}_proj.weight"].T).unflatten(-1, (count, HEAD)).transpose(1, 2)
                y = self.norm(x, f"{of}.input_layernorm")
                q = self.turn(heads("q", HEADS, y), cosine, sine)
                k = self.turn(heads("k", KEY_HEADS, y), cosine, sine).repeat_interleave(HEADS // KEY_HEADS, dim=1)
                v = heads("v", KEY_HEADS, y).repeat_interleave(HEADS // KEY_HEADS, dim=1)
                seen = torch.softmax(q @ k.transpose(-1, -2) * HEAD**-0.5 + unseen, dim=-1)
                x = x + (seen @ v).transpose(1, 2).flatten(2) @ tensors[f"{of}.self_attn.o_proj.weight"].T
                y = self.norm(x, f"{of}.post_attention_layernorm")
                gate, up, down = (tensors[f"{of}.mlp.{part}_proj.weight"].T for part in ("gate", "up", "down"))
                gate = y @ gate
                x = x + (gate * torch.sigmoid(gate) * (y @ up)) @ down
            x = self.norm(x[torch.arange(ids.shape[0]), last], "model.norm")
            return x @ tensors["model.embed_tokens.weight"][WORDS].T

    (Path(model) / "onnx").mkdir(exist_ok=True)
    example = (torch.randint(5, 99, (3, 17)), torch.tensor([16, 9, 4]))
    torch.onnx.export(
        Plain().eval(), example, f"{model}/onnx/model.onnx", input_names=["ids", "last"], output_names=["logits"],
        dynamic_axes={"ids": {0: "texts", 1: "tokens"}, "last": {0: "texts"}}, dynamo=False, opset_version=17,
    )  # fmt: skip


class LlamaCpp:
    def __init__(self, file, threads, at_once, exact):
        import llama_cpp

        self.cpp, self.at_once, self.tokens = llama_cpp, at_once, 512
        # It tells much about itself.
        self.silent = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self.silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(str(file).encode(), llama_cpp.llama_model_default_params())
        assert self.model, f"{file} is not loaded"
        how = llama_cpp.llama_context_default_params()
        how.n_ctx = how.n_batch = how.n_ubatch = self.tokens
        how.n_seq_max, how.kv_unified = (64, True) if at_once else (1, True)
        how.n_threads = how.n_threads_batch = threads
        if exact:
            # Unless it is told otherwise, keys and values are kept in f16, and its flash attention adds values in f16 (2e-3 apart).
            how.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
            how.type_k = how.type_v = llama_cpp.GGML_TYPE_F32
        self.context = llama_cpp.llama_init_from_model(self.model, how)
        assert self.context, "no context"
        self.batch = llama_cpp.llama_batch_init(self.tokens, 0, 1)

    def groups(self, texts):
        """Texts that go in together."""
        group, used = [], 0
        for row in sorted(range(len(texts)), key=lambda row: len(texts[row][1])):
            length = len(texts[row][1])
            if group and (not self.at_once or used + length > self.tokens):
                yield group
                group, used = [], 0
            group.append(row)
            used += length
        yield group

    def evaluate(self, texts):
        cpp, batch = self.cpp, self.batch
        logits = numpy.zeros((len(texts), len(WORDS)), dtype=numpy.float32)
        for group in self.groups(texts):
            cpp.llama_memory_clear(cpp.llama_get_memory(self.context), False)
            ends, place = [], 0
            for sequence, row in enumerate(group):
                ids = texts[row][1]
                for position, token in enumerate(ids):
                    batch.token[place], batch.pos[place] = token, position
                    batch.n_seq_id[place], batch.seq_id[place][0] = 1, sequence
                    batch.logits[place] = position + 1 == len(ids)
                    place += 1
                ends.append(place - 1)
            batch.n_tokens = place
            assert cpp.llama_decode(self.context, batch) == 0
            for row, end in zip(group, ends):
                found = cpp.llama_get_logits_ith(self.context, end)
                logits[row] = [found[word] for word in WORDS]
        return logits


def serve(task, key, model, prompt, threads):
    if key.startswith("llama"):
        _, how, kind = key.split("-")
        worker = LlamaCpp(f"{model}/model-{kind}.gguf", threads, how == "batch", kind == "f32")
    else:
        worker = {"torch": Torch, "onnx": Onnx}[key](model, prompt, threads)
    work = getattr(worker, task)
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
    task, key, model, prompt, threads = sys.argv[1:]
    export(model) if task == "export" else serve(task, key, model, prompt, int(threads))
