"""How much work a contestant does: floating-point operations of matrix products, two for a multiply-add."""

from speed_inputs import HEADS, HIDDEN, LAYERS, PROMPT, VERBALIZER, VOCABULARY, WIDTH, padded

FULL = [WIDTH] * LAYERS
PRUNED = [WIDTH] * 3 + [61] * (LAYERS - 3)


def forward(rows, widths=FULL, *, last="all", head="answer"):
    """(products with weights, products of attention) of one text. `last` says which rows the last layer computes: all, the
    answer's only, the answer's without keys and values (absorbed into its query, for each head as wide as the rows), or all up to
    the activations of the FFN ("activations"); `head` where there is a head: at the answer and for
    the label words, everywhere for the whole vocabulary, or nowhere."""
    weights = attention = 0
    for layer, width in enumerate(widths):
        here = last if layer == LAYERS - 1 else "all"
        queries = 1 if here in ("answer", "absorbed") else rows
        seconds = 0 if here == "activations" else queries
        keys, heads = (queries, HEADS) if here == "absorbed" else (rows, 1)
        weights += 2 * keys * HIDDEN**2 + 2 * queries * HIDDEN**2 + (queries + seconds) * HIDDEN * width
        attention += 2 * heads * queries * rows * HIDDEN
    if head == "answer":
        weights += HIDDEN**2 + HIDDEN * len(VERBALIZER)
    if head == "everywhere":
        weights += rows * (HIDDEN**2 + HIDDEN * VOCABULARY)
    return 2 * weights, 2 * attention


class Work:
    """Of one task: what is needed of any contestant, and what each does."""

    def __init__(self, task, lengths):
        self.task, self.lengths = task, lengths
        self.real = [PROMPT + length for length in lengths]

    def rows(self, kind):
        """For each text the rows that are computed."""
        by_length = kind != "reference" and self.task == "evaluate"
        return self.real if kind.startswith("ours") else padded(self.lengths, by_length)

    def operations(self, kind):
        """Of a pass over all texts: `ours` without more than is needed, `ours pruned` the same with a pruned model, `reference`
        and `peer`."""
        return {"evaluate": self.evaluate, "step": self.step, "probe": self.probe}[self.task](kind)

    def forward(self, kind):
        widths = PRUNED if kind == "ours pruned" else FULL
        ours = "absorbed" if self.task == "evaluate" else "answer"  # Under dropout keys and values are needed.
        last = ours if kind.startswith("ours") else "all"
        head = "everywhere" if kind == "reference" else "answer"
        return [forward(rows, widths, last=last, head=head) for rows in self.rows(kind)]

    def evaluate(self, kind):
        return sum(map(sum, self.forward(kind)))

    def step(self, kind):
        """The gradient of what goes into a product with weights costs as much as the product, and the weights' gradient again
        as much; the gradients of a product of attention cost twice the product."""
        factor = 3 if kind == "reference" else 2
        return sum(factor * weights + 3 * attention for weights, attention in self.forward(kind))

    def probe(self, kind):
        """The reference's passes: three over train (averages of three types), four over the rest (counts of three, one neuron's
        activations). Ours: one over each."""
        half = len(self.lengths) // 2
        if kind == "reference":
            passes = [3] * half + [4] * (len(self.lengths) - half)
            rows = padded(self.lengths[:half], False) + padded(self.lengths[half:], False)
            return sum(n * sum(forward(count, head="everywhere")) for n, count in zip(passes, rows))
        return sum(sum(forward(count, last="activations", head="nowhere")) for count in self.real)
