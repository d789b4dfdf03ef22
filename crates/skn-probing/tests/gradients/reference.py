"""What PyTorch says of gradients to neurons of a small random RoBERTa, in float64: writes reference.safetensors beside this file.

    pip install torch transformers safetensors numpy
    python3 reference.py

The model is one of transformers, its prompt goes in as rows of embeddings before the text, and each layer's neurons at the prompt's rows get
zeros added whose gradients are those of the neurons. For integrated gradients the neurons of all layers are held at k/20 of what they are.
"""

import pathlib

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import RobertaConfig, RobertaForMaskedLM

LAYERS, POSITIONS, NEURONS, HIDDEN, STEPS = 2, 3, 12, 8, 20
TEXTS = [[0, 11, 2], [0, 14, 9, 30, 2], [0, 7, 7, 21, 39, 2], [0, 25, 12, 2], [0, 33, 10, 18, 2], [0, 5, 2], [0, 28, 16, 6, 2]]
LABELS = [0, 1, 2, 0, 1, 2, 0]
WORDS = [6, 17, 23]  # the tokens that answer


def model():
    torch.manual_seed(5)
    config = RobertaConfig(
        vocab_size=40, hidden_size=HIDDEN, num_attention_heads=2, intermediate_size=NEURONS, num_hidden_layers=LAYERS,
        max_position_embeddings=34, type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5, attn_implementation="eager",
    )
    model = RobertaForMaskedLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # The usual 0.02 would leave nothing to compare; layer norms stay near 1.
            parameter.normal_(1.0 if "LayerNorm.weight" in name or "layer_norm.weight" in name else 0.0, 0.5)
    return model.double()


class Neurons:
    """Takes the neurons of the prompt's rows, adds zeros to them, or holds them at a share of what they were."""

    def __init__(self, model):
        self.model, self.share, self.kept = model, None, [None] * LAYERS
        for number, layer in enumerate(model.roberta.encoder.layer):
            layer.intermediate.register_forward_hook(lambda module, given, x, number=number: self.on(number, x))

    def on(self, layer, x):
        prompt, text = x[:, :POSITIONS], x[:, POSITIONS:]
        if self.share is None:
            self.kept[layer] = prompt.detach()
        else:
            prompt = self.share * self.kept[layer]
        self.added[layer] = torch.zeros_like(prompt, requires_grad=True)
        return torch.cat([prompt + self.added[layer], text], 1)

    def slopes(self, prompt, ids, label, share=None):
        """Of the loss, and of each class's probability: [1 + classes, L, P, F]."""
        self.share, self.added = share, [None] * LAYERS
        rows = torch.cat([prompt, self.model.roberta.embeddings.word_embeddings(torch.tensor(ids))])
        logits = self.model(inputs_embeds=rows[None]).logits[0, 0, WORDS]
        targets = [-logits.log_softmax(0)[label], *logits.softmax(0)]
        return torch.stack([torch.cat(torch.autograd.grad(of, self.added, retain_graph=True)) for of in targets])


def main():
    network = model()
    neurons, prompt = Neurons(network), torch.randn(POSITIONS, HIDDEN).float().double()
    z, slopes, integrated = [], [], []
    for ids, label in zip(TEXTS, LABELS):
        slopes.append(neurons.slopes(prompt, ids, label).numpy())
        z.append(torch.cat(neurons.kept).numpy())
        steps = [neurons.slopes(prompt, ids, label, k / STEPS)[1 + label].numpy() for k in range(1, STEPS + 1)]
        integrated.append(np.mean(steps, 0))
    z, slopes, integrated, labels = np.array(z), np.array(slopes), np.array(integrated), np.array(LABELS)
    # A neuron counts at its best position, and in the ranking by signs for its best class against the rest.
    taylor = np.abs(z * slopes[:, 0]).mean(0).max(1)
    shares = []
    for answer in range(len(WORDS)):
        agrees = (z * slopes[:, 1 + answer] > 0) == (labels == answer)[:, None, None, None]
        share = (agrees[labels == answer].mean(0) + agrees[labels != answer].mean(0)) / 2
        shares.append(np.maximum(share, 1 - share))
    expected = {
        "taylor": taylor,
        "gradient": np.max(shares, 0).max(1),
        "integrated_gradients": np.abs(z * integrated).mean(0).max(1),
        "activations": z,
        "loss_slopes": slopes[:, 0],
    }
    tensors = {f"expected.{name}": values.astype(np.float32) for name, values in expected.items()}
    tensors["prompt"] = prompt.numpy().astype(np.float32)
    state = network.state_dict()
    for name, values in state.items():
        if name.startswith(("roberta.", "lm_head.")) and "position_ids" not in name and "decoder" not in name:
            if values.is_floating_point():
                tensors[name] = values.numpy().astype(np.float32)
    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, pathlib.Path(__file__).with_name("reference.safetensors"))
    print({name: (values.shape, float(np.abs(values).max())) for name, values in expected.items()})


if __name__ == "__main__":
    main()
