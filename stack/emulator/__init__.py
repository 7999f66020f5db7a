"""The process that emulates AWS: ministack, and all without which our guarantees would not hold over it.

enforcement  signatures and policies as AWS enforces them
interface    the HTTP interface of the emulator's own, of which little is left
durability   no answer begins before what it acknowledges is on disk
writethrough what the emulator holds, written to the storage, and read back at the start
queues       what has changed of the messages of SQS
storage      a database, and the bytes of objects, with nothing lost at a kill
wal          whether the log of that database is whole
earlier      the state that an earlier version of Syncline saved
reception    connections, counted and in turns
bodies       bodies of requests, bounded before it is known who sends them
"""
