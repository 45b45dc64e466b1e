//! async-openai with the layers in its `with_http_service`: a question, its answer streamed, embeddings, an upload.

use async_openai::{
    Client,
    config::OpenAIConfig,
    types::{
        InputSource,
        chat::{ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequestArgs},
        embeddings::CreateEmbeddingRequestArgs,
        files::{CreateFileRequestArgs, FileInput, FilePurpose},
    },
};
use clients::{endpoint, use_ring};
use futures_util::StreamExt;
use tower::BoxError;
use tower_outbound::{bridge::reqwest::ReqwestService, stack};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    use_ring();
    let api = endpoint().await?;
    let stack = stack::openai().base_url(&api.base_url).api_key(&api.key).checked()?;
    let layers = ReqwestService::build(reqwest::Client::builder())?.layered(stack);
    let config = OpenAIConfig::new().with_api_base(&api.base_url).with_api_key(&api.key);
    let client = Client::with_config(config).with_http_service(layers);

    let message = ChatCompletionRequestUserMessageArgs::default().content("Say hello").build()?;
    let mut question = CreateChatCompletionRequestArgs::default();
    let question = question.model("gpt-4o-mini").messages([message.into()]).build()?;
    let answer = client.chat().create(question.clone()).await?;
    println!("{:?}", answer.choices.first().and_then(|choice| choice.message.content.as_ref()));

    let mut stream = client.chat().create_stream(question).await?;
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        if let Some(text) = piece.choices.first().and_then(|choice| choice.delta.content.as_ref()) {
            print!("{text}");
        }
    }
    println!();

    let request = CreateEmbeddingRequestArgs::default().model("text-embedding-3-small").input("some words").build()?;
    println!("{} embedding", client.embeddings().create(request).await?.data.len());

    // On the real API a file would be left behind.
    if api.mock.is_some() {
        let source = InputSource::Bytes { filename: "batch.jsonl".to_owned(), bytes: "{}\n".into() };
        let mut upload = CreateFileRequestArgs::default();
        let upload = upload.file(FileInput { source }).purpose(FilePurpose::Batch).build()?;
        println!("uploaded as {}", client.files().create(upload).await?.id);
    }
    Ok(())
}
