"""The outbox: delivers events to webhooks, MQTT and a daily archive, each a consumer group on the event stream."""
