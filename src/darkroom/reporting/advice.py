"""Advice against overfitting, which train prints and the evaluation report repeats."""

OVERFITTING_ADVICE = (
    "the training loss kept falling while the validation loss rose; more training data help most; "
    "otherwise try stronger augmentation, more weight_decay, dropout or label_smoothing, a smaller "
    "model, or train.patience"
)
