"""A sweep.yaml to start from."""

EXAMPLE = """\
# `darkroom sweep sweep.yaml` tries values for params.yaml; parameters that are not named here stay.
sampler: tpe             # grid: all combinations; random; tpe: learns from earlier trials
trials: 40               # including trial 0, which is params.yaml as it is; not for grid
seed: 0                  # of the sampler
seeds: 1                 # trainings per trial, with consecutive seeds; their mean counts
jobs: 1                  # trainings at once
pruning: null            # {min_epochs: 5, factor: 3}: successive halving
space:
  train.lr: {low: 0.005, high: 0.5, log: true}
  train.weight_decay: {low: 0.00001, high: 0.01, log: true}
  model.width: {low: 16, high: 64, step: 16}
  model.dropout: {low: 0, high: 0.5, step: 0.1}
  augment.rotate: [0, 8, 16]
  train.optimizer: [sgd, adamw]
  train.momentum: {when: {train.optimizer: sgd}, low: 0.8, high: 0.99, otherwise: null}
  train.nesterov: {when: {train.optimizer: sgd}, choices: [true], otherwise: null}
"""
