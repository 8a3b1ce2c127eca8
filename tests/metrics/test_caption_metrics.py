from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from blip_refine.errors import ConfigurationError, MetricError
from blip_refine.metrics import CaptionMetrics, score_captions

from .captions import PREDICTIONS, REFERENCES

TEXTS, GROUPS = list(PREDICTIONS.values()), list(REFERENCES.values())


def expected():
    return score_captions(PREDICTIONS, REFERENCES, ["Bleu", "ROUGE_L", "CIDEr"]).corpus


def test_interface_of_an_evaluate_metric():
    metric = CaptionMetrics()
    assert metric.compute(predictions=TEXTS, references=GROUPS) == expected()
    metric.add(prediction=TEXTS[0], references=GROUPS[0])
    metric.add_batch(predictions=TEXTS[1:], references=GROUPS[1:])
    assert metric.compute() == expected()
    assert metric.last.signature and list(metric.last.per_image["CIDEr"]) == ["0", "1", "2", "3"]
    with pytest.raises(MetricError, match="nothing to score"):
        metric.compute()


def test_as_a_real_evaluate_metric_without_network(monkeypatch):
    evaluate = pytest.importorskip("evaluate")
    import socket

    def no_network(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    metric = CaptionMetrics().to_evaluate()
    assert isinstance(metric, evaluate.Metric)
    assert metric.compute(predictions=TEXTS, references=GROUPS) == expected()
    combined = evaluate.combine([CaptionMetrics(["Bleu_1"]).to_evaluate(), CaptionMetrics(["ROUGE_L"]).to_evaluate()])
    combined.add_batch(predictions=TEXTS, references=GROUPS)
    assert combined.compute() == {name: expected()[name] for name in ("Bleu_1", "ROUGE_L")}
    single = metric.compute(predictions=TEXTS, references=[group[0] for group in GROUPS])
    assert single["Bleu_1"] < expected()["Bleu_1"]


class Tokenizer:
    """Words by their numbers; fails on -100 as a real tokenizer does."""

    pad_token_id = 0
    words = [
        "<pad>",
        *sorted({word for text in [*TEXTS, *(g for group in GROUPS for g in group)] for word in text.split()}),
    ]

    def encode(self, text, length=20):
        ids = [self.words.index(word) for word in text.split()]
        return ids + [-100] * (length - len(ids))

    def batch_decode(self, ids, skip_special_tokens):
        assert skip_special_tokens and (ids >= 0).all(), "a negative id overflows in a fast tokenizer"
        return [" ".join(self.words[i] for i in row if i) for row in ids]


def prediction(texts, labels):
    tokenizer = Tokenizer()
    return SimpleNamespace(
        predictions=np.array([tokenizer.encode(text) for text in texts]),
        label_ids=np.array([tokenizer.encode(text) for text in labels]),
    )


def test_as_compute_metrics_with_ignored_labels():
    metric = CaptionMetrics(tokenizer=Tokenizer())
    first = [group[0] for group in GROUPS]
    found = metric(prediction(TEXTS, first))
    assert found == CaptionMetrics().compute(predictions=TEXTS, references=first)


def test_all_references_of_each_row_are_used_where_given():
    metric = CaptionMetrics(tokenizer=Tokenizer(), references=GROUPS)
    assert metric(prediction(TEXTS, [group[0] for group in GROUPS])) == expected()
    with pytest.raises(MetricError, match="3 predictions for the references of 4 rows"):
        metric(prediction(TEXTS[:3], TEXTS[:3]))


def test_empty_generations_of_an_untrained_model_are_scored():
    metric = CaptionMetrics(tokenizer=Tokenizer())
    found = metric(prediction(["", "", "a", ""], [group[0] for group in GROUPS]))
    assert found["CIDEr"] >= 0 and any("empty" in warning for warning in metric.last.warnings)


def test_logits_are_refused_with_what_to_set():
    metric = CaptionMetrics(tokenizer=Tokenizer())
    logits = SimpleNamespace(predictions=np.zeros((2, 5, 30)), label_ids=np.zeros((2, 5), dtype=int))
    with pytest.raises(MetricError, match="predict_with_generate=True"):
        metric(logits)
    with pytest.raises(ConfigurationError, match="needs the tokenizer"):
        CaptionMetrics()(logits)


def test_bad_input():
    with pytest.raises(MetricError, match="2 predictions and the references of 1"):
        CaptionMetrics().add_batch(predictions=["a", "b"], references=[["a"]])
    with pytest.raises(MetricError, match="predictions and references, or neither"):
        CaptionMetrics().compute(predictions=["a"])
    with pytest.raises(ConfigurationError, match="no metric"):
        CaptionMetrics(["WER"])
    with pytest.raises(MetricError, match="a list with the references of each row"):
        CaptionMetrics(references="a dog")


@pytest.mark.slow
def test_in_a_seq2seq_trainer_of_transformers(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = ["<pad>", "<s>", "</s>", "<unk>", *Tokenizer.words[1:]]
    fast = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="<unk>"))
    fast.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    model = transformers.BartForConditionalGeneration(
        transformers.BartConfig(
            vocab_size=len(words), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2,
        )
    )  # fmt: skip
    rows = [
        {"input_ids": tokenizer(text)["input_ids"], "labels": [*tokenizer(group[0])["input_ids"], 2]}
        for text, group in zip(TEXTS, GROUPS, strict=True)
    ]
    metric = CaptionMetrics(tokenizer=tokenizer, references=GROUPS)
    trainer = transformers.Seq2SeqTrainer(
        model=model,
        args=transformers.Seq2SeqTrainingArguments(
            str(tmp_path), predict_with_generate=True, generation_max_length=12, per_device_eval_batch_size=3,
            report_to=[], use_cpu=True,
        ),
        eval_dataset=rows,
        data_collator=transformers.DataCollatorForSeq2Seq(tokenizer, model=model),
        compute_metrics=metric,
    )  # fmt: skip
    found = trainer.evaluate()
    assert found["eval_CIDEr"] == metric.last.corpus["CIDEr"] and "eval_Bleu_4" in found
