"""Networks of online action detection restated from their state dicts, for tests/parity/online_action_test.cpp.

  online_action.py write DIR TITLE...
      for each network a folder of that title with random weights under the published names (model.safetensors) and
      cases.safetensors: inputs of 1 and 3 streams, and their logits in double precision
  online_action.py check OURS DIR TITLE...
      opens OURS/TITLE.pth, written by zoo, as its users do, and compares it with the network's weights

Biases, gains and tokens are random, too, so that no part can be left out unseen.
"""

import math
import os
import sys

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

BATCHES = (1, 3)


class Weights:
    """Tensors by name, drawn when first asked for."""

    def __init__(self):
        self.state = {}

    def get(self, name, *shape, mean=0.0, std=0.3):
        if name not in self.state:
            self.state[name] = mean + std * torch.randn(*shape)
        assert self.state[name].shape == shape, name
        return self.state[name].double()

    def matrix(self, name, out, inside):
        return self.get(name, out, inside, std=inside**-0.5)

    def linear(self, name, x, out, bias=True):
        weight = self.matrix(name + ".weight", out, x.shape[-1])
        return F.linear(x, weight, self.get(name + ".bias", out) if bias else None)

    def norm(self, name, x):
        size = x.shape[-1]
        gain = self.get(name + ".weight", size, mean=1.0, std=0.2)
        return F.layer_norm(x, (size,), gain, self.get(name + ".bias", size))


def attention(q, k, v, heads, mask=None):
    """Softmax attention of heads that are blocks of channels; mask is added to the logits."""

    def split(x):
        return x.reshape(x.shape[0], x.shape[1], heads, -1).permute(0, 2, 1, 3)

    q, k, v = split(q), split(k), split(v)
    logits = torch.einsum("bhtc,bhsc->bhts", q, k) / math.sqrt(q.shape[-1])
    if mask is not None:
        logits = logits + mask
    return torch.einsum("bhts,bhsc->bthc", logits.softmax(-1), v).flatten(2)


def causal(n):
    return torch.full((n, n), -torch.inf, dtype=torch.double).triu(1)


def oadtr(w, case, features, classes, window, dim, layers, heads, ahead_layers, ahead_heads, inner, horizons, token):
    x = case["features"]
    x = w.linear("linear_encoding", x, dim)
    if token:
        x = torch.cat([x, w.get("cls_token", 1, 1, dim).repeat(len(x), 1, 1)], 1)
    w.state["position_encoding.position_ids"] = torch.arange(x.shape[1])[None]
    x = x + w.get("position_encoding.pe.weight", x.shape[1], dim)
    for i in range(layers):
        attends, feeds = f"encoder.net.{2 * i}.fn.", f"encoder.net.{2 * i + 1}.fn."
        q, k, v = w.linear(attends + "fn.qkv", w.norm(attends + "norm", x), 3 * dim, bias=False).chunk(3, -1)
        x = x + w.linear(attends + "fn.proj", attention(q, k, v, heads), dim)
        y = F.gelu(w.linear(feeds + "fn.net.0", w.norm(feeds + "norm", x), inner))
        x = x + w.linear(feeds + "fn.net.3", y, dim)
    memory = w.norm("pre_head_ln", x)

    def attend(name, query, keys, mask):
        q, k, v = (
            w.linear(f"{name}.{part}_projection", y, dim)
            for part, y in (("query", query), ("key", keys), ("value", keys))
        )
        return w.linear(name + ".out_projection", attention(q, k, v, ahead_heads, mask), dim)

    def conv(name, x, out):
        weight = w.get(name + ".weight", out, x.shape[-1], 1, std=x.shape[-1] ** -0.5)
        return F.conv1d(x.transpose(1, 2), weight, w.get(name + ".bias", out)).transpose(1, 2)

    x = w.get("decoder_cls_token", 1, horizons, dim).repeat(len(memory), 1, 1)
    w.state["decoder_position_encoding.position_ids"] = torch.arange(horizons)[None]
    w.get("decoder_position_encoding.pe.weight", horizons, dim)
    for i in range(ahead_layers):
        layer = f"decoder.layers.{i}."
        x = w.norm(layer + "norm1", x + attend(layer + "self_attention", x, x, causal(horizons)))
        x = w.norm(layer + "norm2", x + attend(layer + "cross_attention", x, memory, None))
        y = conv(layer + "conv2", F.gelu(conv(layer + "conv1", x, inner)), dim)
        x = w.norm(layer + "norm3", x + y)
    x = w.norm("decoder.norm", x)
    current = w.linear("mlp_head", torch.cat([memory[:, -1], x.mean(1)], 1), classes)
    return current[:, None], w.linear("classifier", x, classes)[:, None]


def cell(w, name, x, h, c):
    size = h.shape[-1]
    gates = F.linear(x, w.matrix(name + ".weight_ih", 4 * size, x.shape[-1]), w.get(name + ".bias_ih", 4 * size))
    gates = gates + F.linear(h, w.matrix(name + ".weight_hh", 4 * size, size), w.get(name + ".bias_hh", 4 * size))
    i, f, g, o = gates.split(size, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def trn(w, case, features, classes, window, dim, horizons):
    x = case["features"]
    h = c = x.new_zeros(len(x), dim)
    context = x.new_zeros(len(x), features)
    current, future = [], []
    for t in range(x.shape[1]):
        f = F.relu(w.linear("feature_extractor.input_linear.0", x[:, t], features))
        h, c = cell(w, "enc_cell", torch.cat([f, context], 1), h, c)
        current.append(w.linear("classifier", h, classes))
        ahead = F.relu(w.linear("hx_trans.0", h, dim)), F.relu(w.linear("cx_trans.0", c, dim))
        fed, context, logits = torch.zeros_like(h), 0, []
        for _ in range(horizons):
            ahead = cell(w, "dec_cell", fed, *ahead)
            logits.append(w.linear("classifier", ahead[0], classes))
            fed = F.relu(w.linear("fusion_linear.0", logits[-1], dim))
            context = context + F.relu(w.linear("future_linear.0", ahead[0], features)) / horizons
        future.append(torch.stack(logits, 1))
    return torch.stack(current, 1), torch.stack(future, 1)


def rnn(w, case, features, classes, window, inner, dim, kind, horizons):
    x = F.relu(w.norm("layer1.1", w.linear("layer1.0", case["features"], inner)))
    gates = {"gru": 3, "lstm": 4, "rnn": 1}[kind]
    w_ih = w.matrix(f"{kind}.weight_ih_l0", gates * dim, inner)
    w_hh = w.matrix(f"{kind}.weight_hh_l0", gates * dim, dim)
    b_ih, b_hh = w.get(f"{kind}.bias_ih_l0", gates * dim), w.get(f"{kind}.bias_hh_l0", gates * dim)
    h = c = x.new_zeros(len(x), dim)
    hidden = []
    for t in range(x.shape[1]):
        of_x, of_h = F.linear(x[:, t], w_ih, b_ih), F.linear(h, w_hh, b_hh)
        if kind == "gru":
            r, z = (torch.sigmoid(of_x[:, s] + of_h[:, s]) for s in (slice(0, dim), slice(dim, 2 * dim)))
            n = torch.tanh(of_x[:, 2 * dim :] + r * of_h[:, 2 * dim :])
            h = (1 - z) * n + z * h
        elif kind == "lstm":
            i, f, g, o = (of_x + of_h).split(dim, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        else:
            h = torch.tanh(of_x + of_h)
        hidden.append(F.relu(h))
    hidden = torch.stack(hidden, 1)
    current = w.linear("f_classification.0", hidden, classes)
    if horizons == 0:
        return current, None
    ahead = w.linear("anticipation_layer.0", hidden, horizons * dim).unflatten(-1, (horizons, dim))
    return current, w.linear("f_classification.0", F.relu(ahead), classes)


def linear(w, case, features, classes, window, horizons):
    x = case["features"]
    future = w.linear("future_classifier", x, horizons * classes).unflatten(-1, (horizons, classes))
    return w.linear("classifier", x, classes), future


def testra(w, case, features, classes, window, memory, decay, queries, compressed, layers, dim, heads, inner, horizons):
    def attend(name, query, keys, mask):
        weight, bias = w.matrix(name + ".in_proj_weight", 3 * dim, dim), w.get(name + ".in_proj_bias", 3 * dim)
        (wq, wk, wv), (bq, bk, bv) = weight.chunk(3), bias.chunk(3)
        q, k, v = F.linear(query, wq, bq), F.linear(keys, wk, bk), F.linear(keys, wv, bv)
        return w.linear(name + ".out_proj", attention(q, k, v, heads, mask), dim)

    def stack(name, x, keys, count, mask, memory_mask):
        for i in range(count):
            layer = f"{name}.layers.{i}."
            x = w.norm(layer + "norm1", x + attend(layer + "self_attn", x, x, mask))
            x = w.norm(layer + "norm2", x + attend(layer + "multihead_attn", x, keys, memory_mask))
            y = w.linear(layer + "linear2", F.relu(w.linear(layer + "linear1", x, inner)), dim)
            x = w.norm(layer + "norm3", x + y)
        return w.norm(name + ".norm", x)

    batch = len(case["features"])
    samples = F.relu(w.linear("feature_head_long.input_linear.0", case["memory"], dim))
    age = torch.arange(samples.shape[1] - 1, -1, -1, dtype=torch.double)
    mask = torch.where(case["memory_mask"], 0.0, -torch.inf)[:, None, None]
    if decay < 1:
        mask = mask + torch.log(decay**age + 1e-10)
    first = w.get("enc_queries.0.weight", queries, dim).repeat(batch, 1, 1)
    second = w.get("enc_queries.1.weight", compressed, dim).repeat(batch, 1, 1)
    x = stack("enc_modules.0", first, samples, 1, None, mask)
    x = stack("enc_modules.1", second, x, layers, None, None)

    position, rate = torch.arange(5000)[:, None].double(), 10000 ** (-torch.arange(0, dim, 2).double() / dim)
    pe = torch.empty(5000, dim).double()
    pe[:, 0::2], pe[:, 1::2] = torch.sin(position * rate), torch.cos(position * rate)
    w.state["pos_encoding.pe"] = pe.float()[:, None]
    work = F.relu(w.linear("feature_head_work.input_linear.0", case["features"], dim)) + pe[: case["features"].shape[1]]
    if horizons > 0:
        tokens = w.get("dec_query.weight", horizons, dim) + pe[window : window + horizons]
        work = torch.cat([work, tokens.repeat(batch, 1, 1)], 1)
    mask = causal(work.shape[1])
    keys = torch.cat([x, work], 1)
    x = stack("dec_modules", work, keys, layers, mask, F.pad(mask, (compressed, 0)))
    logits = w.linear("classifier", x, classes)
    if horizons == 0:
        return logits, None
    return logits[:, :-horizons], logits[:, None, -horizons:]


OADTR = "features classes window dim layers heads ahead_layers ahead_heads inner horizons token"
TRN = "features classes dim horizons window"
RNN = "kind features classes inner dim horizons window"
LINEAR = "features classes horizons window"
TESTRA = "decay features classes window memory queries compressed layers dim heads inner horizons"
NETWORKS = {
    "oadtr": (oadtr, OADTR, (12, 5, 7, 16, 2, 4, 3, 2, 24, 3, True)),
    "oadtr_wide": (oadtr, OADTR, (9, 4, 11, 24, 3, 2, 2, 4, 16, 4, True)),
    "oadtr_without_token": (oadtr, OADTR, (9, 4, 11, 24, 2, 2, 2, 4, 16, 4, False)),
    "trn": (trn, TRN, (10, 5, 16, 3, 6)),
    "trn_wide": (trn, TRN, (7, 4, 24, 4, 5)),
    "gru": (rnn, RNN, ("gru", 12, 5, 16, 20, 0, 9)),
    "gru_future": (rnn, RNN, ("gru", 10, 4, 24, 16, 3, 7)),
    "lstm": (rnn, RNN, ("lstm", 12, 5, 16, 20, 2, 9)),
    "lstm_wide": (rnn, RNN, ("lstm", 8, 4, 20, 28, 0, 6)),
    "rnn": (rnn, RNN, ("rnn", 12, 5, 16, 20, 2, 9)),
    "rnn_wide": (rnn, RNN, ("rnn", 8, 4, 20, 28, 0, 6)),
    "linear": (linear, LINEAR, (6, 5, 2, 4)),
    "linear_wide": (linear, LINEAR, (9, 3, 4, 7)),
    "testra": (testra, TESTRA, (0.97, 12, 5, 8, 24, 4, 6, 2, 16, 4, 24, 0)),
    "testra_future": (testra, TESTRA, (0.5, 10, 4, 6, 24, 3, 5, 2, 24, 2, 16, 3)),
    "testra_box": (testra, TESTRA, (1.0, 10, 4, 6, 9, 3, 5, 1, 24, 2, 16, 0)),
}


def write(root, *titles):
    for title in titles:
        torch.manual_seed(sum(map(ord, title)))
        network, keys, values = NETWORKS[title]
        sizes = dict(zip(keys.split(), values, strict=True))
        weights, tensors = Weights(), {}
        for i, batch in enumerate(BATCHES):
            case = {"features": torch.randn(batch, sizes["window"], sizes["features"])}
            if "memory" in sizes:
                count = sizes["memory"]
                case["memory"] = torch.randn(batch, count, sizes["features"])
                real = torch.tensor([[1], [count], [count // 2]][: batch] if batch > 1 else [[count - 1]])
                case["memory_mask"] = torch.arange(count) >= count - real
            tensors |= {f"{i}.{name}": tensor for name, tensor in case.items()}
            case = {name: t.double() if t.is_floating_point() else t for name, t in case.items()}
            current, future = network(weights, case, **sizes)
            tensors[f"{i}.current"] = current
            if future is not None:
                tensors[f"{i}.future"] = future
        folder = os.path.join(root, title)
        os.mkdir(folder)
        state = {name: tensor.clone() for name, tensor in weights.state.items()}
        save_file(state, os.path.join(folder, "model.safetensors"))
        save_file({name: t.contiguous() for name, t in tensors.items()}, os.path.join(folder, "cases.safetensors"))
        # As training programs keep them.
        epoch = {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": {"step": 7}}
        torch.save(epoch, os.path.join(folder, "epoch.pth"))
        torch.save({"model": state, "args": {"lr": 1e-4}, "epoch": 3}, os.path.join(folder, "model.pth"))


def check(ours, root, *titles):
    for title in titles:
        found = torch.load(os.path.join(ours, title + ".pth"), weights_only=True)
        expected = load_file(os.path.join(root, title, "model.safetensors"))
        assert found.keys() == expected.keys(), f"{title}: {found.keys() ^ expected.keys()}"
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor), f"{title}: {name}"


if __name__ == "__main__":
    with torch.no_grad():
        {"write": write, "check": check}[sys.argv[1]](*sys.argv[2:])
