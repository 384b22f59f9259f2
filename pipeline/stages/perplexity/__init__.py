"""N-gram language models of words: the text they see, their estimation, their files and scoring with them."""
