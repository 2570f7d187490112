"""Five short scripts that use `Lab` as the page does. Each is run by a test.

chat              ask a variant, and print its answer while it arrives
compare           one question to several variants
train_and_export  train an adapter, and make a variant of it
evaluate          which of several variants is better
import_answers    the same for answers from a file
"""
