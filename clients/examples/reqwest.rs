//! Questions and an upload over reqwest, with its own builder.

use clients::{endpoint, use_ring};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tower::BoxError;
use tower_outbound::{ApiError, bridge::reqwest::ReqwestService, stack};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    use_ring();
    let api = endpoint().await?;
    let stack = stack::openai().base_url(&api.base_url).api_key(&api.key).checked()?;
    let client = ReqwestService::build(reqwest::Client::builder())?.layered(stack);

    let question = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]});
    let response = client.post(format!("{}/chat/completions", api.base_url)).json(&question).send().await?;
    println!("{} from {}", response.status(), response.url());
    let answer: Value = response.json().await?;
    println!("{}", answer["choices"][0]["message"]["content"]);

    // A form is made anew for each sending: nothing of the file is kept.
    let url = format!("{}/files", api.base_url);
    let upload = client.remake(move |http| {
        let file = Part::bytes(&b"{\"custom_id\": \"1\"}\n"[..]).file_name("batch.jsonl");
        http.post(&url).multipart(Form::new().text("purpose", "batch").part("file", file))
    });
    let response = upload.send().await?;
    match response.extensions().get::<ApiError>() {
        Some(error) => println!("upload: {error}"),
        None => println!("upload: {}", response.status()),
    }
    Ok(())
}
