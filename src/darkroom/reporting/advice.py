"""What to try, where a training went wrong: said by train and in evaluate's report alike."""

OVERFITTING_ADVICE = (
    "the training loss went on falling while the validation loss rose; more augment, weight_decay, "
    "dropout or label_smoothing, a smaller model, or train.patience help, and more images most"
)
