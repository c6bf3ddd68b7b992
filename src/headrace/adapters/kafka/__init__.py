"""Apache Kafka behind the ports, through confluent-kafka: the only folder that imports it."""
