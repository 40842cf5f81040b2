"""Which shipped class serves a folder whose card names none, and what a class can do. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HERE = "models.runtimes.tasks"
EMBEDDER = f"{HERE}.sentence_embedder:SentenceEmbedder"
RERANKER = f"{HERE}.cross_encoder:CrossEncoder"
CLASSIFIER = f"{HERE}.text_classifier:TextClassifier"
PAINTER = f"{HERE}.coordinate_painter:CoordinatePainter"
VOICE = f"{HERE}.formant_voice:FormantVoice"
EAR = f"{HERE}.lexicon_ear:LexiconEar"

# By the architecture in config.json; those that end in HEAD are told apart by their number of labels.
ARCHITECTURES: dict[str, str] = {
    **dict.fromkeys(
        ("BertModel", "RobertaModel", "XLMRobertaModel", "DistilBertModel", "MPNetModel", "BertForMaskedLM"), EMBEDDER
    ),
    "CoordinatePainter": PAINTER,
    "FormantVoice": VOICE,
    "LexiconEar": EAR,
}
HEAD = "ForSequenceClassification"

TASKS: dict[str, str] = {
    EMBEDDER: "embeddings",
    RERANKER: "rerank",
    CLASSIFIER: "classify",
    PAINTER: "images",
    VOICE: "speech",
    EAR: "transcribe",
}


def default_class(config: Mapping[str, Any]) -> str | None:
    """``module:Class`` for the content of a config.json; None for an architecture that no shipped class knows."""
    named = config.get("architectures")
    for architecture in named if isinstance(named, list) else ():
        if architecture in ARCHITECTURES:
            return ARCHITECTURES[architecture]
        if str(architecture).endswith(HEAD):
            return RERANKER if label_count(config) == 1 else CLASSIFIER
    return None


def label_count(config: Mapping[str, Any]) -> int:
    """As transformers counts them: the labels' names go before their number; two where nothing is said."""
    names, count = config.get("id2label"), config.get("num_labels")
    if isinstance(names, Mapping):
        return len(names)
    return count if type(count) is int else 2
