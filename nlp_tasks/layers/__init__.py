"""Shared layers. Lengths and noise are always explicit arguments; none of them knows a task."""

from nlp_tasks.layers.bag_of_ngrams import BagOfNgrams
from nlp_tasks.layers.characters import CharacterEncoder
from nlp_tasks.layers.convolution import Convolution
from nlp_tasks.layers.crf import CRF, log_likelihood, log_partition, marginals, sequence_score, viterbi
from nlp_tasks.layers.dropout import Dropout, Noise, TokenDropout
from nlp_tasks.layers.embedding import Embedding
from nlp_tasks.layers.model import Model
from nlp_tasks.layers.pooling import AttentionPooling, last_pooling, max_pooling, mean_pooling
from nlp_tasks.layers.recurrent import GRU, LSTM, Bidirectional, MinGRU, SimpleRNN, Stack, Windows, recurrent_path

__all__ = [
    "CRF", "GRU", "LSTM", "AttentionPooling", "BagOfNgrams", "Bidirectional", "CharacterEncoder", "Convolution", "Dropout", "Embedding",
    "MinGRU", "Model", "Noise", "SimpleRNN", "Stack", "TokenDropout", "Windows", "last_pooling", "log_likelihood", "log_partition",
    "marginals", "max_pooling", "mean_pooling", "recurrent_path", "sequence_score", "viterbi",
]  # fmt: skip
