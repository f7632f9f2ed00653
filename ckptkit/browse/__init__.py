"""A checkpoint in the terminal: `ckptkit browse`. The tree and the texts are plain values; `app` alone needs Textual."""
