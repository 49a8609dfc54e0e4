"""A one-node Kubernetes of ordinary processes, in a network namespace of its own, without Docker.

python -m tests.cluster.ground up        start it, or find it running; prints the kubeconfig's path
python -m tests.cluster.ground load FILE import an image archive
python -m tests.cluster.ground has NAME  whether an image of this name is there (exit status)
python -m tests.cluster.ground down      end its processes, and nothing else
python -m tests.cluster.ground enter …   run a command within its network
"""
