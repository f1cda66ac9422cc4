//! The window, by the names that its users and their screen readers know, over an engine whose words the tests put in.

#[path = "app/conversation.rs"]
mod conversation;
#[path = "app/desk.rs"]
mod desk;
#[path = "app/keeping.rs"]
mod keeping;
#[path = "app/looks.rs"]
mod looks;
#[path = "app/models.rs"]
mod models;
