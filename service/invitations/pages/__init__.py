"""The pages about invitations: for who sends them, and for who receives them."""

from service.invitations.pages import colleagues, receiving, sending
from service.web.pages import page_router

routes = [page_router(*receiving.handlers, *sending.handlers, *colleagues.handlers)]
