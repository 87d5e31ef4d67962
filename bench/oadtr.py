"""OadTR in PyTorch as its paper and published shapes have it, for inference and training side by side."""
import torch
from torch import nn
from torch.nn import functional as F


def heads(x, count):
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def attend(q, k, v, count, drop, mask=None):
    scores = heads(q, count) @ heads(k, count).transpose(-2, -1) * (q.shape[-1] // count) ** -0.5
    if mask is not None:
        scores = scores.masked_fill(mask, -torch.inf)
    return (drop(scores.softmax(-1)) @ heads(v, count)).transpose(1, 2).flatten(2)


class EncoderLayer(nn.Module):
    def __init__(self, dim, count):
        super().__init__()
        self.count, self.drop = count, nn.Dropout(0.1)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.drop(self.drop(self.proj(attend(q, k, v, self.count, self.drop))))
        return x + self.drop(self.down(self.drop(F.gelu(self.up(self.norm2(x))))))


class DecoderLayer(nn.Module):
    def __init__(self, dim, count):
        super().__init__()
        self.count, self.drop = count, nn.Dropout(0.1)
        self.own = nn.ModuleList(nn.Linear(dim, dim) for _ in range(4))
        self.cross = nn.ModuleList(nn.Linear(dim, dim) for _ in range(4))
        self.up, self.down = nn.Conv1d(dim, dim, 1), nn.Conv1d(dim, dim, 1)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))

    def attention(self, layers, x, memory, mask):
        query, key, value, out = layers
        return self.drop(out(attend(query(x), key(memory), value(memory), self.count, self.drop, mask)))

    def forward(self, x, memory, causal):
        x = self.norms[0](x + self.attention(self.own, x, x, causal))
        x = self.norms[1](x + self.attention(self.cross, x, memory, None))
        wide = self.drop(F.gelu(self.up(x.transpose(1, 2))))
        return self.norms[2](x + self.drop(self.down(wide)).transpose(1, 2))


class OadTr(nn.Module):
    """features [B,64,3072] -> current [B,22], future [B,8,22]."""

    def __init__(self, width=3072, classes=22, window=64, dim=1024, horizons=8):
        super().__init__()
        self.linear_encoding, self.drop = nn.Linear(width, dim), nn.Dropout(0.1)
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, window + 1, dim))
        self.encoder = nn.ModuleList(EncoderLayer(dim, 8) for _ in range(3))
        self.norm, self.decoder_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.queries = nn.Parameter(torch.randn(1, horizons, dim))
        self.decoder = nn.ModuleList(DecoderLayer(dim, 4) for _ in range(5))
        self.head, self.classifier = nn.Linear(2 * dim, classes), nn.Linear(dim, classes)
        self.register_buffer("causal", torch.ones(horizons, horizons, dtype=torch.bool).triu(1))

    def forward(self, features):
        batch = features.shape[0]
        x = torch.cat([self.linear_encoding(features), self.token.expand(batch, -1, -1)], 1)
        x = self.drop(x + self.positions)
        for layer in self.encoder:
            x = layer(x)
        x = self.norm(x)
        y = self.queries.expand(batch, -1, -1)
        for layer in self.decoder:
            y = layer(y, x, self.causal)
        y = self.decoder_norm(y)
        return self.head(torch.cat([x[:, -1], y.mean(1)], -1)), self.classifier(self.drop(y))
