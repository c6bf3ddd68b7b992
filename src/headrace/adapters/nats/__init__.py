"""The ports on NATS JetStream: a topic is a stream, a consumer group a durable consumer. The only
package that imports the NATS client.

| here | JetStream |
|---|---|
| topic `jetstream:<name>`, one partition | stream, one subject |
| offset | sequence number of the stream, less 1, because those begin at 1 |
| consumer group | durable pull consumer of each stream that the group reads |
| committed offset | acknowledgement floor; for an exclusive feed an entry of a key-value bucket |
| owner of a partition | lease in a key-value bucket (exclusive feeds), else nobody: members share |
"""
