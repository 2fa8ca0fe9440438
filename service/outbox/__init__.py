"""The outbox: webhooks, MQTT and the daily archive, each a consumer group on the event stream. No torch."""
