"""What a model may bring with it so that erasing can be judged: words, prompts, questions and a detector."""
