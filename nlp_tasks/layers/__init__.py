"""Shared layers. Lengths and noise are always explicit arguments; none of them knows a task."""

from nlp_tasks.layers.attention import Attention, rotary
from nlp_tasks.layers.bag_of_ngrams import BagOfNgrams
from nlp_tasks.layers.characters import CharacterEncoder
from nlp_tasks.layers.convolution import Convolution
from nlp_tasks.layers.crf import CRF, log_likelihood, log_partition, marginals, sequence_score, viterbi
from nlp_tasks.layers.dropout import Dropout, Noise, TokenDropout
from nlp_tasks.layers.embedding import Embedding
from nlp_tasks.layers.feed_forward import FeedForward
from nlp_tasks.layers.memory import EpisodicMemory
from nlp_tasks.layers.model import Model
from nlp_tasks.layers.negative_sampling import NegativeSampling, Stream
from nlp_tasks.layers.pooling import AttentionPooling, last_pooling, max_pooling, mean_pooling
from nlp_tasks.layers.reading import BilinearPointer, ContextQueryAttention, QuestionAlignment, best_spans, pointed
from nlp_tasks.layers.recurrent import GRU, LSTM, Bidirectional, MinGRU, SimpleRNN, Stack, Windows, recurrent_path
from nlp_tasks.layers.recurrent_decoder import RecurrentDecoder
from nlp_tasks.layers.softmax import AdaptiveSoftmax, FullSoftmax, SampledSoftmax
from nlp_tasks.layers.transformer import CausalTransformer, TransformerDecoder, TransformerEncoder

__all__ = [
    "CRF",
    "GRU",
    "LSTM",
    "AdaptiveSoftmax",
    "Attention",
    "AttentionPooling",
    "BagOfNgrams",
    "Bidirectional",
    "BilinearPointer",
    "CausalTransformer",
    "CharacterEncoder",
    "ContextQueryAttention",
    "Convolution",
    "Dropout",
    "Embedding",
    "EpisodicMemory",
    "FeedForward",
    "FullSoftmax",
    "MinGRU",
    "Model",
    "NegativeSampling",
    "Noise",
    "QuestionAlignment",
    "RecurrentDecoder",
    "SampledSoftmax",
    "SimpleRNN",
    "Stack",
    "Stream",
    "TokenDropout",
    "TransformerDecoder",
    "TransformerEncoder",
    "Windows",
    "best_spans",
    "last_pooling",
    "log_likelihood",
    "log_partition",
    "marginals",
    "max_pooling",
    "mean_pooling",
    "pointed",
    "recurrent_path",
    "rotary",
    "sequence_score",
    "viterbi",
]
