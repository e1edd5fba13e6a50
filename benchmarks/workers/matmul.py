"""The machine's rate: a product of two float32 matrices of 1024 x 1024 in torch."""

import torch

from workers.serve import Server

SIZE = 1024


def main() -> None:
    server = Server()
    left, right = torch.randn(2, SIZE, SIZE).unbind()
    server.run(lambda: torch.mm(left, right), flops=2 * SIZE**3)


if __name__ == "__main__":
    main()
