//! What all services of one layer share.

use std::sync::Arc;

use http::Request;

use super::{
    Priority, RequestView, Settings, Sight, TokenCost,
    book::Book,
    content::Content,
    demand::Demand,
    scope::Scope,
    scopes::{Foreseen, Purpose, Scopes},
};
use crate::body::media::is_no_json;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) scopes: Scopes,
    pub(super) book: Arc<Book>,
}

impl Shared {
    pub(super) fn new(settings: Settings) -> Arc<Self> {
        let book = Book::new((*settings.accounts).clone());
        let scopes = Scopes::new(settings.clone(), Arc::clone(&book));
        Arc::new(Self { settings, scopes, book })
    }

    pub(super) fn class<B>(request: &Request<B>) -> u8 {
        request.extensions().get::<Priority>().copied().unwrap_or_default().class()
    }

    /// The scope of a request, and what it asks for.
    #[inline(always)]
    pub(super) fn inquire<V: Sight<B>, B>(&self, request: &Request<B>) -> (Arc<Scope>, Demand) {
        let given = given(request);
        let reads_cost = given.is_none() && self.settings.estimate.reads_body();
        match self.scopes.one() {
            Some(scope) if !reads_cost => {
                let length = length_of_prompt::<V, B>(request, scope.counts_tokens());
                let demand = given.map_or_else(|| Demand::by_length(length), |cost| Demand::given(cost, length));
                (Arc::clone(scope), demand)
            }
            _ => self.read::<V, B, B, _>(request, request, given, |view, model| self.scopes.find(view, model)),
        }
    }

    /// Where a request would be counted that looks so (`head`) when it comes here, and what it asks for.
    pub(super) fn foresee<V: Sight<B>, B, H>(
        &self,
        head: &Request<H>,
        request: &Request<B>,
        purpose: Purpose,
    ) -> (Foreseen, Demand) {
        self.read::<V, B, H, _>(head, request, given(request), |view, model| self.scopes.foresee(view, model, purpose))
    }

    #[inline(never)]
    fn read<V: Sight<B>, B, H, T>(
        &self,
        head: &Request<H>,
        request: &Request<B>,
        given: Option<TokenCost>,
        find: impl FnOnce(&RequestView<'_>, Option<&str>) -> T,
    ) -> (T, Demand) {
        let reads_cost = given.is_none() && self.settings.estimate.reads_body();
        let view = RequestView::new(head, None);
        let outside = self.scopes.model_outside(&view);
        let reads_scope = self.scopes.reads_body(outside);
        let body = if reads_cost || reads_scope { V::content(request) } else { None };
        let view = RequestView::new(head, body.as_deref());
        let reads_content = reads_cost || self.scopes.reads_content(outside);
        // Once, for the model and the cost alike.
        let content = if reads_content { body.as_deref().and_then(Content::read) } else { None };
        let model = outside.or_else(|| content.as_ref()?.model());
        let scope = find(&view, model);
        // An object of JSON is one, whatever its head calls it.
        let length = match &content {
            Some(_) => body.as_ref().map(|body| body.len() as u64),
            None => length_of_prompt::<V, B>(request, true),
        };
        let reckon = || self.settings.estimate.of(&view, content.as_ref(), length);
        (scope, given.map_or_else(reckon, |cost| Demand::given(cost, length)))
    }
}

#[inline]
fn given<B>(request: &Request<B>) -> Option<TokenCost> {
    request.extensions().get().copied()
}

/// How long the body is, where that tells of tokens: a file is no prompt, however long it is.
#[inline]
fn length_of_prompt<V: Sight<B>, B>(request: &Request<B>, counts_tokens: bool) -> Option<u64> {
    V::length(request).filter(|length| *length == 0 || !counts_tokens || !is_no_json(request.headers()))
}
