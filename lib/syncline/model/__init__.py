"""The domain that clients and servers share: pure values and functions, no I/O, no wire format, no cloud.

space      the unit of sharing, permission and ordering: a tree of nodes with a journal of its own
node       a file, directory or symlink, whose id never changes (`syncline.model.tree.Node`)
content    the bytes of a file or the target of a symlink, at one time (`syncline.model.tree.Content`)
version    one step in the history of a file: its number and its content (`syncline.model.tree.Version`)
digest     the SHA-256 of bytes (`syncline.model.blocks.Digest`)
block      a part of a file, cut where its bytes say so, named by its digest (`syncline.model.blocks.BlockRef`)
manifest   the ordered list of blocks that make up a content (`syncline.model.blocks.Manifest`)
journal    the total order of all changes in a space
mutation   one change that a client asks for (`syncline.model.tree.Mutation`)
verdict    what the metadata service has decided about one mutation (`syncline.model.verdicts.Verdict`)
role       what a member may do in a space (`syncline.model.accounts.Role`)
doorbell   a push that says at which sequence number a space is now (`syncline.model.doorbell.Doorbell`)

docs/glossary.md has all terms, and what carries each outside of this package.
"""
