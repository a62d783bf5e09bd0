"""Shared layers. Lengths and noise are always explicit arguments; none of them knows a task."""

from nlp_tasks.layers.bag_of_ngrams import BagOfNgrams
from nlp_tasks.layers.convolution import Convolution
from nlp_tasks.layers.dropout import Dropout, Noise, TokenDropout
from nlp_tasks.layers.embedding import Embedding
from nlp_tasks.layers.model import Model
from nlp_tasks.layers.pooling import AttentionPooling, last_pooling, max_pooling, mean_pooling
from nlp_tasks.layers.recurrent import GRU, LSTM, Bidirectional, MinGRU, SimpleRNN, Stack, Windows, recurrent_path

__all__ = [
    "GRU", "LSTM", "AttentionPooling", "BagOfNgrams", "Bidirectional", "Convolution", "Dropout", "Embedding", "MinGRU", "Model",
    "Noise", "SimpleRNN", "Stack", "TokenDropout", "Windows", "last_pooling", "max_pooling", "mean_pooling", "recurrent_path",
]  # fmt: skip
